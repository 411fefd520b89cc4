"""A small engine that is run as a process of its own: healthy after a while, then as bad as it is told to be."""

import argparse
import http.server
import os
import signal
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--tag")
parser.add_argument("--port", type=int)
parser.add_argument("--key-file")
parser.add_argument("--load-s", type=float, default=0.0)
parser.add_argument("--exit-after-s", type=float)
parser.add_argument("--deaf", action="store_true", help="ignores SIGTERM")
asked = parser.parse_args()
with open(asked.key_file, encoding="utf-8") as file:
    print("has a key of", len(file.read()), "characters", flush=True)
print("portal secrets in its environment:", "SECRET_KEY" in os.environ or "DATABASE_URL" in os.environ, flush=True)
if asked.deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(asked.load_s)
server = http.server.ThreadingHTTPServer(("127.0.0.1", asked.port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
if asked.exit_after_s is not None:
    time.sleep(asked.exit_after_s)
    print("something broke", flush=True)
    os._exit(3)
threading.Event().wait()
