"""What all tests share: offline, one thread, an isolated cache, figures without a screen."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
