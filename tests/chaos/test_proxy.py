"""The proxy's faults are what they say they are; the suite stands on them."""

import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from proxy import Proxy

GIVE_UP_MS = 500


@contextmanager
def echo_server():
    """Sends back what it gets."""

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection):
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy():
    with echo_server() as upstream, Proxy(lambda: upstream) as running:
        yield running


@contextmanager
def connected(proxy, timeout_s=10):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout_s) as client:
        yield client


def echoed(client, data=b"hello"):
    client.sendall(data)
    return client.recv(len(data)) == data


def test_it_forwards_and_counts(proxy):
    with connected(proxy) as client:
        assert echoed(client)
    assert (proxy.connections, proxy.forwarded_bytes, proxy.broken) == (1, 10, 0)


def test_what_is_refused_is_reset_and_comes_back(proxy):
    with connected(proxy) as client:
        assert echoed(client)
        with proxy.refusing():
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            with pytest.raises(ConnectionRefusedError), connected(proxy):
                pass
    with connected(proxy) as client:
        assert echoed(client)
    assert proxy.broken == 1


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters need Linux")
def test_in_a_black_hole_packets_vanish_without_an_answer_and_connections_stay_dead(proxy):
    with connected(proxy) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
        assert echoed(client)
        with proxy.black_hole(), pytest.raises(TimeoutError), connected(proxy, timeout_s=0.2):
            pass
        client.sendall(b"lost")
        with pytest.raises(TimeoutError):  # of TCP itself: nothing was acknowledged, and nothing was reset
            client.recv(1)
    with connected(proxy) as client:
        assert echoed(client)


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters need Linux")
def test_a_black_hole_can_swallow_one_connection_of_several(proxy):
    with connected(proxy, timeout_s=0.2) as lost, connected(proxy) as kept:
        assert echoed(lost)
        assert echoed(kept)
        [port] = [
            connection.server_side_port
            for connection in proxy._open
            if connection.client_port == lost.getsockname()[1]
        ]
        with proxy.black_hole([port]):
            lost.sendall(b"lost")
            with pytest.raises(TimeoutError):
                lost.recv(1)
            assert echoed(kept)


def test_a_connection_is_cut_after_so_many_bytes(proxy):
    with connected(proxy) as client, proxy.cutting(1_000):
        assert echoed(client, b"x" * 1_000)
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_slow_line_takes_its_time(proxy):
    with connected(proxy) as client, proxy.slow(0.1, bytes_per_s=1e6):
        started = time.monotonic()
        assert echoed(client)
        assert time.monotonic() - started >= 0.2


def test_an_answer_takes_the_place_of_the_server(proxy):
    with proxy.answering(), pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/", timeout=10)
    assert proxy.forwarded_bytes == 0
