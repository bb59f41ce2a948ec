"""A training loop whose result depends on every step: each step's noise comes from its number."""

import hashlib
import os
import time

import numpy as np

SIZE = 4096
EVERY = 10
steps, pause_s = int(os.environ["STEPS"]), float(os.environ["PAUSE_S"])
folder = os.environ["SLIPWAY_CHECKPOINT_DIR"]
restored = os.environ.get("SLIPWAY_RESTORED_PATH")
step, weights = 0, np.zeros(SIZE)
if restored:
    step = int(os.environ["SLIPWAY_RESTORED_STEP"])
    weights = np.load(os.path.join(restored, "weights.npy"))
print("from step", step, flush=True)
while step < steps:
    step += 1
    gradient = np.random.default_rng(step).standard_normal(SIZE)
    weights = np.tanh(0.9 * weights + gradient)
    time.sleep(pause_s)
    if step % EVERY == 0:
        unfinished = os.path.join(folder, f"{step}.tmp")
        os.makedirs(unfinished)
        np.save(os.path.join(unfinished, "weights.npy"), weights)
        os.rename(unfinished, os.path.join(folder, str(step)))
print("weights", hashlib.sha256(weights.tobytes()).hexdigest(), flush=True)
