"""Forged notifications at an even rate: `python flood.py CONNINFO CHANNEL SECONDS`; prints how many were sent.

One in a hundred is as long as a notification can be; the others are wrong JSON, of a wrong version, or about batches that do
not exist, a third each. They go out twenty times a second, 500 in a transaction.
"""

import sys
import time

import psycopg

RATE = 10_000
PER_TRANSACTION = 500

# Equal ones in a transaction would collapse into one: each carries a number.
_SEND = """
    select pg_notify(%(channel)s, case
        when n %% 100 = 0 then rpad(n::text, 7999, 'x')
        when n %% 3 = 0 then format('{nonsense %%s', n)
        when n %% 3 = 1 then format('{"v": 2, "batch_id": %%s}', n)
        else format('{"v": 1, "batch_id": %%s}', 900000000 + n)
    end)
    from generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s - 1) as n
"""


def send(conninfo: str, channel: str, seconds: float) -> int:
    sent, started = 0, time.monotonic()
    with psycopg.connect(conninfo, autocommit=True, application_name="chaos flood") as connection:
        while (elapsed := time.monotonic() - started) < seconds:
            if sent < elapsed * RATE:
                connection.execute(
                    _SEND,
                    {"channel": channel, "first": sent, "count": PER_TRANSACTION},
                )
                sent += PER_TRANSACTION
            else:
                time.sleep(0.005)
    return sent


if __name__ == "__main__":
    print(send(sys.argv[1], sys.argv[2], float(sys.argv[3])))
