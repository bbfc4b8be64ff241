"""One run of rq or celery on the Redis at port 26399: put jobs of 1 KiB, one worker, jobs/s."""
import subprocess
import sys
import time

import redis

REDIS = redis.Redis(port=26399, db=5)


def work(_payload):
    REDIS.incr("done")


try:
    from celery import Celery
    app = Celery("peers", broker="redis://127.0.0.1:26399/3")
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False, task_acks_late=True)
    task = app.task(name="peers.work")(work)
except ImportError:
    app = None


def main(kind, jobs):
    payload = "x" * 1024
    REDIS.delete("done")
    if kind == "rq":
        from rq import Queue
        queue = Queue(connection=redis.Redis(port=26399, db=3))
        put = lambda: queue.enqueue("peers.work", payload)
        words = ["-m", "rq.cli", "worker", "-q", "-u", "redis://127.0.0.1:26399/3",
                 "-w", "rq.worker.SimpleWorker"]
    else:
        put = lambda: app.send_task("peers.work", [payload])
        words = ["-m", "celery", "-A", "peers", "worker", "-P", "solo", "-l", "ERROR",
                 "--without-gossip", "--without-mingle"]
    worker = subprocess.Popen([sys.executable] + words, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        put()
        deadline = time.monotonic() + 30
        while int(REDIS.get("done") or 0) < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        begin = time.monotonic()
        for _ in range(jobs):
            put()
        deadline = time.monotonic() + 60
        while int(REDIS.get("done") or 0) < jobs + 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        done = int(REDIS.get("done") or 0) - 1
        print("%.0f" % (done / (time.monotonic() - begin)))
    finally:
        worker.kill()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
