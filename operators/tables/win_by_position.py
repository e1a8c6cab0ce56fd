#!/usr/bin/env python3
"""Computes `operators/src/win_by_position.rs`: how often the car in a place won, by the laps its leader had completed.

    win_by_position.py LAPS SEASONS > ../src/win_by_position.rs

LAPS is a folder with FastF1's lap tables, `fastf1_race_laps_YEAR.csv`; SEASONS is f1db's folder `src/data/seasons`. README.md says
where both come from and what is left out. The scores of seasons held out go to standard error. Nothing but the standard library.
"""

import csv
import math
import pathlib
import sys

YEARS = range(2018, 2023)
PLACES = 20
LAPS_IN_BIN = 5
BINS = 15  # Lap 0, then fourteen bins of five laps; the last is open.
# The lap count of some cars is wrong, and with it the order, which is the rank of the time at a lap's end.
CORRUPT = {(2018, 4), (2020, 1), (2020, 9)}
# How many races the place's frequency over all bins weighs beside a bin's own.
PRIOR_RACES = 10
CHECKPOINTS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
FLOOR = 1e-6


def bin_of(laps):
    return 0 if laps == 0 else min(1 + (laps - 1) // LAPS_IN_BIN, BINS - 1)


def seconds(text):
    """`0 days 00:39:14.871000` in seconds."""
    days, _, clock = text.split()
    hours, minutes, rest = clock.split(":")
    return (float(days) * 24 + float(hours)) * 3600 + float(minutes) * 60 + float(rest)


def results(folder):
    """The rows of f1db's `race-results.yml` as far as they are needed: position, car number and place on the grid."""
    rows = []
    for line in (folder / "race-results.yml").read_text(encoding="utf-8").splitlines():
        if line.startswith("- "):
            rows.append({})
            line = "  " + line[2:]
        name, _, value = line.strip().partition(":")
        if name in ("position", "driverNumber", "gridPosition") and line.startswith("  ") and not line.startswith("   "):
            rows[-1][name] = value.strip().strip('"')
    return rows


def races(laps_folder, seasons):
    """Every clean race: its season, its winner's number, and the order of cars at each lap that the leader completed."""
    for year in YEARS:
        rounds = {}
        with open(laps_folder / f"fastf1_race_laps_{year}.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["Time"] and row["LapNumber"]:
                    lap = (int(float(row["LapNumber"])), seconds(row["Time"]), int(row["DriverNumber"]))
                    rounds.setdefault(int(float(row["RoundNumber"])), []).append(lap)
        for number, laps in sorted(rounds.items()):
            if (year, number) in CORRUPT:
                continue
            (folder,) = (seasons / str(year) / "races").glob(f"{number:02}-*")
            rows = results(folder)
            (winner,) = [int(row["driverNumber"]) for row in rows if row["position"] == "1"]
            on_grid = [(int(row["gridPosition"]), int(row["driverNumber"])) for row in rows if row.get("gridPosition", "").isdigit()]
            yield year, winner, {0: [car for _, car in sorted(on_grid)], **orders(laps)}


def orders(laps):
    """The order as it stood when the leader completed each lap: by laps completed, then by when; nothing later is looked at."""
    laps = sorted(laps, key=lambda lap: (lap[1], lap[0]))
    latest, leaders_lap, orders = {}, 0, {}
    for lap, time, car in laps:
        latest[car] = (-lap, time)
        if lap > leaders_lap:
            leaders_lap = lap
            order = sorted(latest, key=lambda car: (latest[car], car))
            # A car four laps behind is out, or as good as out.
            orders[lap] = [car for car in order if -latest[car][0] > lap - 4] if lap > 4 else order
    return orders


def table(training):
    """P(win | bin, place) for the places of each bin, in parts per million. A bin's own frequency and, weighing [`PRIOR_RACES`] races,
    that of the place over all bins; every race weighs the same in a bin, however many of its laps lie in there."""
    wins = [[0.0] * PLACES for _ in range(BINS)]
    weight = [0.0] * BINS
    for _, winner, orders in training:
        by_bin = {}
        for lap, order in orders.items():
            by_bin.setdefault(bin_of(lap), []).append(order)
        for number, inside in by_bin.items():
            weight[number] += 1
            for order in inside:
                if winner in order:
                    wins[number][min(order.index(winner), PLACES - 1)] += 1 / len(inside)
    overall = [(sum(row[place] for row in wins) + 0.05) / (sum(weight) + 1) for place in range(PLACES)]
    rows = []
    for number in range(BINS):
        own = wins[number]
        row = [(own[place] + PRIOR_RACES * overall[place]) / (weight[number] + PRIOR_RACES) for place in range(PLACES)]
        rows.append([max(1, round(value / sum(row) * 1e6)) for value in row])
    return rows, weight


def predict(rows, lap, order):
    weights = [rows[bin_of(lap)][min(place, PLACES - 1)] for place in range(len(order))]
    return {car: weight / sum(weights) for car, weight in zip(order, weights)}


def score(rows, tested):
    """Log loss and Brier score, averaged over the checkpoints of a race and then over races."""
    losses, briers = [], []
    for _, winner, orders in tested:
        last, loss, brier = max(orders), 0.0, 0.0
        for share in CHECKPOINTS:
            lap = max(1, round(share * last))
            lap = max(known for known in orders if known <= lap)
            found = predict(rows, lap, orders[lap])
            loss -= math.log(max(found.get(winner, 0.0), FLOOR))
            brier += sum((value - (car == winner)) ** 2 for car, value in found.items()) + (winner not in found)
        losses.append(loss / len(CHECKPOINTS))
        briers.append(brier / len(CHECKPOINTS))
    return losses, briers


def mean(values):
    return sum(values) / len(values)


def main():
    laps_folder, seasons = map(pathlib.Path, sys.argv[1:])
    clean = list(races(laps_folder, seasons))
    losses, briers, uniform = [], [], []
    for year in YEARS:
        rows, _ = table([race for race in clean if race[0] != year])
        tested = [race for race in clean if race[0] == year]
        of_year = score(rows, tested)
        uniform += score([[1] * PLACES] * BINS, tested)[0]
        losses += of_year[0]
        briers += of_year[1]
        print(f"{year} held out: log loss {mean(of_year[0]):.3f}, Brier {mean(of_year[1]):.3f}, {len(tested)} races", file=sys.stderr)
    print(f"all held out: log loss {mean(losses):.3f}, Brier {mean(briers):.3f}, {len(losses)} races", file=sys.stderr)
    print(f"every car alike: log loss {mean(uniform):.3f}", file=sys.stderr)

    rows, weight = table(clean)
    print("//! How often the car in a place won, by the laps its leader had completed: " + f"{len(clean)} races of {YEARS[0]} to {YEARS[-1]}.")
    print("//!")
    print("//! Computed by `operators/tables/win_by_position.py`, whose README says from what; not to be edited. Parts per million, a row for lap 0")
    print(f"//! and then one for every {LAPS_IN_BIN} laps, the last without end; a column for each place, the last for it and all below.")
    print("//! Races in the rows: " + ", ".join(f"{races:.0f}" for races in weight) + ".")
    print()
    print("/// Laps in a row of the table, but the first and the last.")
    print(f"pub(crate) const LAPS_IN_ROW: i32 = {LAPS_IN_BIN};")
    print()
    print("/// The table.")
    print("#[rustfmt::skip]")
    print(f"pub(crate) const WIN_BY_POSITION: [[u32; {PLACES}]; {BINS}] = [")
    for row in rows:
        print("    [" + ", ".join(f"{value:_}" for value in row) + "],")
    print("];")


if __name__ == "__main__":
    main()
