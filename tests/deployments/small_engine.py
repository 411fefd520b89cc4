"""A small engine that is run as a process of its own: healthy after a while, then as bad as it is told to be.

It answers GET with 200 and POST with a completion, and counts the calls that it has answered in calls.log.
"""

import argparse
import json
import os
import signal
import socketserver
import threading
import time


class Handler(socketserver.StreamRequestHandler):
    """HTTP by hand: the standard library's own takes longer to import than all the rest."""

    def handle(self) -> None:
        line = self.rfile.readline().decode()
        length = 0
        while (header := self.rfile.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        status, body = ("200 OK", b"") if line.startswith("GET") else answer()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.wfile.write(f"{head}Connection: close\r\n\r\n".encode() + body)


def answer() -> "tuple[str, bytes]":
    if asked.refuse:
        return "500 Internal Server Error", b'{"error": {"message": "it can\'t compute that"}}'
    time.sleep(asked.answer_s)
    with open("calls.log", "a", encoding="utf-8") as file:
        file.write("1\n")
    said = asked.answers.replace("_", " ") or f"I am {os.getpid()}"
    message = {"role": "assistant", "content": said}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return "200 OK", json.dumps({"id": "c", "object": "chat.completion", "choices": choices, "usage": usage}).encode()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


parser = argparse.ArgumentParser()
parser.add_argument("--tag")
parser.add_argument("--port", type=int)
parser.add_argument("--key-file")
parser.add_argument("--load-s", type=float, default=0.0)
parser.add_argument("--answer-s", type=float, default=0.0)
parser.add_argument("--exit-after-s", type=float)
parser.add_argument("--deaf", action="store_true", help="ignores SIGTERM")
parser.add_argument("--refuse", action="store_true", help="answers prompts with 500")
parser.add_argument("--answers", default="", help="what it answers to every prompt")
parser.add_argument("--says", default="", help="a last line before it exits at once")
parser.add_argument("--tell-key", action="store_true", help="writes its key into its log")
parser.add_argument("--asked", default="", help="what the real engine would have been asked for")
asked = parser.parse_args()
with open(asked.key_file, encoding="utf-8") as file:
    key = file.read()
    print("has a key of", len(key), "characters", flush=True)
if asked.tell_key:
    print("the key is", key, flush=True)
print("portal secrets in its environment:", "SECRET_KEY" in os.environ or "DATABASE_URL" in os.environ, flush=True)
if asked.says:
    print(asked.says.replace("_", " "), flush=True)
    os._exit(1)
if asked.deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(asked.load_s)
server = Server(("127.0.0.1", asked.port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
if asked.exit_after_s is not None:
    time.sleep(asked.exit_after_s)
    print("something broke", flush=True)
    os._exit(3)
threading.Event().wait()
