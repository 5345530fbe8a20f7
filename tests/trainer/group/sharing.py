"""Learn a fixed log as one rank of torchrun, or alone, and print the losses; see `test_sharing`.

``python -m tests.trainer.group.sharing``: a line of JSON with the losses and a digest of the state.
"""

import json
import random
import sys
from hashlib import sha256

import torch

from models.features.examples import Example
from models.history.history import EMPTY, WindowPolicy, fold
from models.parallel.data_parallel import DataParallel
from tests.support.builders import T0, upload, watch
from tests.support.bundles import SMALL
from trainer.group.group import joined
from trainer.learn.learner import Learner

NUM_VIDEOS, NUM_USERS, NUM_BATCHES, BATCH_SIZE = 40, 12, 30, 9


def main() -> None:
    """Learn, and print what came of it."""
    torch.set_num_threads(1)
    group, rng = joined(), random.Random(0)
    learner = Learner(SMALL, seed=0)
    learner.share_steps(DataParallel(group.rank, group.size))
    for number in range(NUM_VIDEOS):
        learner.upload(upload(f"v{number}", tags=(f"tag{number % 4}",)))
    windows = {f"u{n}": EMPTY for n in range(NUM_USERS)}
    losses = []
    for batch in range(NUM_BATCHES):
        examples = []
        for number in range(BATCH_SIZE if batch % 3 else 1):
            user = rng.randrange(NUM_USERS)
            user_id, video_id = f"u{user}", f"v{rng.randrange(NUM_VIDEOS // 4) * 4 + user % 4}"
            at_ms = batch * 1_000 + number
            examples.append(Example(user_id, windows[user_id], video_id, T0 + at_ms))
            event = watch(video_id, user_id=user_id, at_ms=at_ms)
            windows[user_id] = fold(windows[user_id], [event], WindowPolicy())
        losses.append(learner.learn(learner.encode(examples)))
    arrays, _ = learner.state()
    digest = sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
    line = json.dumps({"rank": group.rank, "losses": losses, "digest": digest})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    group.close()


if __name__ == "__main__":
    main()
