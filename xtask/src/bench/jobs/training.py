"""Steps of equal length, and one checkpoint of random bytes; prints when each of them happened."""

import os
import signal
import time

STEP_S = 0.01
STEPS_BEFORE_SAVE = 300
CHUNK_BYTES = 8 << 20

if "TRAINING_CPU" in os.environ:
    os.sched_setaffinity(0, {int(os.environ["TRAINING_CPU"])})

ends = []


def say(what):
    print(what, f"{time.time():.6f}", flush=True)


def leave(*_):
    """Prints when each step ended, as milliseconds since the one before."""
    print("started", f"{ends[0]:.6f}")
    for start in range(1, len(ends), 50):
        pairs = zip(ends[start - 1:], ends[start:start + 50])
        print("steps", *(f"{(end - started) * 1e3:.2f}" for started, end in pairs))
    print("over", flush=True)
    os._exit(143)


def save(folder, mebibytes):
    chunk = os.urandom(CHUNK_BYTES)
    partial = os.path.join(folder, "1.tmp")
    os.mkdir(partial)
    with open(os.path.join(partial, "weights.bin"), "wb") as weights:
        for number in range((mebibytes << 20) // CHUNK_BYTES):
            weights.write(number.to_bytes(8, "big") + chunk[8:])
    say("written")
    os.rename(partial, os.path.join(folder, "1"))
    say("saved")


def step():
    """What a processor does while a GPU computes: mostly, it waits."""
    time.sleep(STEP_S)
    ends.append(time.time())


say("first " + os.environ.get("SLIPWAY_RESTORED_STEP", "0"))
signal.signal(signal.SIGTERM, leave)
folder = os.environ["SLIPWAY_CHECKPOINT_DIR"]
is_new = "SLIPWAY_RESTORED_STEP" not in os.environ
while True:
    step()
    if is_new and len(ends) == STEPS_BEFORE_SAVE:
        say("writing")
        save(folder, int(os.environ["MEBIBYTES"]))
