"""The evidence for the rule of promotion: how often it refuses equally good models, what it finds, and how far a champion drifts.

Models are columns of predictions of a holdout with the challenge's class sizes. Each is right on about four of five rows, and
redraws a tenth of the predictions of the model before it, as weekly retraining does.

    python tests/benchmarks/promotion_simulation.py [--trials 200] [--rows 1165]
"""

import argparse

import numpy as np
from sklearn.metrics import f1_score

from listeners.promotion.compare import SIGNIFICANCE, compare
from shared.categories import CATEGORIES

CODES = np.array(list(CATEGORIES))
PRIORS = np.array([category.training_rows for category in CATEGORIES.values()])
PRIORS = PRIORS / PRIORS.sum()
SMALLEST = CODES[PRIORS.argmin()]
REDRAWN = 0.1
WEEKS = 20


def holdout(rows, random):
    return random.choice(CODES, rows, p=PRIORS)


def redraw(truth, predictions, random, share=REDRAWN, skill=0.78):
    guesses = random.choice(CODES, len(truth), p=PRIORS)
    drawn = np.where(random.random(len(truth)) < skill, truth, guesses)
    return np.where(random.random(len(truth)) < share, drawn, predictions)


def pair(rows, seed, share):
    random = np.random.default_rng(seed)
    truth = holdout(rows, random)
    champion = redraw(truth, truth, random, share=1)
    return truth, champion, redraw(truth, champion, random, share), random


def false_blocks(rows, share, trials):
    """How often the floor refuses one of two equally good models."""
    blocked = 0
    for seed in range(trials):
        truth, champion, challenger, _ = pair(rows, seed, share)
        blocked += bool(compare(truth, challenger, champion, seed=seed, n_resamples=1000).blocked_by)
    return blocked / trials


def power(rows, lost, trials):
    """How often the floor finds that the smallest class has lost this share of its rows, and how many it had."""
    found, support = 0, 0
    for seed in range(trials):
        truth, champion, challenger, random = pair(rows, seed, REDRAWN)
        hit = (truth == SMALLEST) & (random.random(rows) < lost)
        challenger = np.where(hit, random.choice(CODES, rows, p=PRIORS), challenger)
        comparison = compare(truth, challenger, champion, seed=seed, n_resamples=1000)
        found += int(SMALLEST) in comparison.blocked_by
        support += (truth == SMALLEST).sum()
    return found / trials, support / trials


def chain(rows, loss, rule, seed):
    """Share of weeks in which the newcomer was refused, and the last champion's F1 minus the first's."""
    random = np.random.default_rng(seed)
    truth = holdout(rows, random)
    models = [redraw(truth, truth, random, share=1)]
    scores = [f1_score(truth, models[0], average="weighted")]
    champions = [0]
    for week in range(1, WEEKS + 1):
        newcomer = redraw(truth, models[-1], random, skill=0.78 - loss * week)
        spoiled = (newcomer == truth) & (random.random(rows) < loss)
        models.append(np.where(spoiled, random.choice(CODES, rows, p=PRIORS), newcomer))
        scores.append(f1_score(truth, models[-1], average="weighted"))
        if is_promoted(truth, models, scores, champions, rule):
            champions.append(week)
    return 1 - (len(champions) - 1) / WEEKS, scores[champions[-1]] - scores[0]


def is_promoted(truth, models, scores, champions, rule):
    if not compare(truth, models[-1], models[champions[-1]], seed=len(models), n_resamples=400).promote:
        return False
    best = max(champions, key=lambda week: (scores[week], week))
    if rule == "champion only" or best == champions[-1]:
        return True
    significance = SIGNIFICANCE / (len(champions) if rule == "best at 0.05 / k" else 1)
    return compare(
        truth, models[-1], models[best], seed=len(models), n_resamples=400, significance=significance
    ).promote


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="*", default=[1165, 8490])
    options = parser.parse_args()
    for rows in options.rows:
        print(f"holdout of {rows:,} rows")
        for share in (0.03, REDRAWN, 0.3, 1):
            rate = false_blocks(rows, share, options.trials)
            print(f"  the floor refuses an equally good model, {share:.0%} redrawn: {rate:.3f}", flush=True)
        for lost in (0.1, 0.2, 0.4, 1):
            found, support = power(rows, lost, options.trials // 4)
            print(
                f"  the smallest class ({support:.0f} rows) loses {lost:.0%}: found {found:.2f}", flush=True
            )
        for loss in (0, 0.003):
            for rule in ("champion only", "best at 0.05", "best at 0.05 / k"):
                refused, drift = np.mean(
                    [chain(rows, loss, rule, n) for n in range(options.trials // 10)], axis=0
                )
                print(
                    f"  {WEEKS} weeks, each {loss} worse, {rule}: refused {refused:.3f}, drift {drift:+.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
