"""Version, and rows per second, of ONNX Runtime without a server: two callers on one shared session, batches of 32.

    python reference.py MODEL SECONDS
"""

import sys
import threading
import time

import numpy as np
import onnxruntime as ort

BATCH, CALLERS = 32, 2

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
tensor = session.get_inputs()[0]
feed = {tensor.name: np.ones((BATCH, tensor.shape[1]), np.int64)}
session.run(None, feed)
end, runs = time.perf_counter() + float(sys.argv[2]), [0] * CALLERS


def call(caller):
    while time.perf_counter() < end:
        session.run(None, feed)
        runs[caller] += 1


started = time.perf_counter()
threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(ort.__version__, sum(runs) * BATCH / (time.perf_counter() - started))
