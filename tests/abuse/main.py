"""Abuses the daemon in each known way, while an honest caller goes on; fails where that one is not served, or where the
daemon's memory has no bound. scripts/abuse.sh runs this: main.py FOLDER_WITH_CAIRLD_AND_CAIRLCTL [ATTACK]..."""

import sys
import time

import attacks
from daemon import Daemon, Span, Watch

# How long each goes on at least, seconds. What is sent byte by byte takes its time.
SECONDS = {"slow_heads": 6}
USUAL_SECONDS = 2
# What the daemon may take, MiB. Ten thousand connections may take more, and two thousand messages of 128 KiB.
BOUND = {"ten_thousand": 384, "stuck_messages": 512}
USUAL_BOUND = 128


def main():
    programs, names = sys.argv[1], sys.argv[2:]
    chosen = [attack for attack in attacks.ALL if not names or attack.__name__ in names]
    failures, curves = [], []
    print("| abuse | MiB before | highest | after | honest calls | slowest ms | what became of it |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for attack in chosen:
        name = attack.__name__
        # A daemon for each, so that none stands in another's memory.
        daemon = Daemon(programs)
        before, files_before = daemon.memory()
        with Watch(daemon) as watch:
            try:
                said = attack(daemon, Span(watch, SECONDS.get(name, USUAL_SECONDS)))
            except AssertionError as failure:
                said = str(failure)
                failures.append(f"{name}: {failure}")
        after, files = settled(daemon, files_before)
        highest = max([before, after] + [memory for _, memory, _ in watch.curve])
        calls = sum(watch.ended.values())
        print(f"| {name} | {before:.0f} | {highest:.0f} | {after:.0f} | {calls} | {watch.slowest * 1000:.0f} "
              f"| {said} |", flush=True)
        curves.append((name, watch.curve))
        failures += [f"{name}: {failure}" for failure in watch.failures[:3]]
        if highest > BOUND.get(name, USUAL_BOUND):
            failures.append(f"{name}: {highest:.0f} MiB, and at most {BOUND.get(name, USUAL_BOUND)} may be")
        if files > files_before + 50:
            failures.append(f"{name}: {files} file descriptors are open, {files_before} were before")
        if any(failure.startswith(name) for failure in failures):
            print("\n".join(daemon.log[-20:]), file=sys.stderr)
        daemon.stop()
    print("\nresident memory, MiB, the highest of each half second; open file descriptors at the end of it:\n")
    print("abuse,seconds,mib,files")
    for name, curve in curves:
        halves = {}
        for at, memory, files in curve:
            half = int(at * 2) / 2
            halves[half] = (max(memory, halves.get(half, (0, 0))[0]), files)
        for half, (memory, files) in halves.items():
            print(f"{name},{half:.1f},{memory:.1f},{files}")
    for failure in failures:
        print(f"abuse: {failure}", file=sys.stderr)
    print(f"abuse: {len(chosen) - len({f.split(':')[0] for f in failures})} of {len(chosen)} had no effect on others")
    sys.exit(1 if failures else 0)


def settled(daemon, files_before):
    """How the daemon stands once it has noticed that the connections are gone."""
    for _ in range(600):
        memory, files = daemon.memory()
        if files <= files_before + 50:
            break
        time.sleep(0.1)
    return memory, files


main()
