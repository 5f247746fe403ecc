"""Runs llama.cpp's own HTTP server with one model, until standard input closes (so it never outlives who started it), or with `--stay`
until it is told to end.

Prints one line `READY http://127.0.0.1:PORT` on standard output when it answers; llama.cpp's log goes to standard error.
Example: python llama_server.py model.gguf --slots 4 --context 8192 --name smollm2
"""

import argparse
import os
import signal
import sys

import xllamacpp


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--name", default="", help="the model name it answers with (default: the file's)")
    parser.add_argument("--slots", type=int, default=2, help="requests at once (default 2)")
    parser.add_argument("--context", type=int, default=4096, help="tokens of all slots together (default 4096)")
    parser.add_argument("--threads", type=int, default=1, help="more than one spins badly beside busy neighbours (default 1)")
    parser.add_argument("--embeddings", action="store_true", help="serve /v1/embeddings, too")
    parser.add_argument("--chat-template", default="", help="a Jinja file in place of the model's own template")
    parser.add_argument("--api-key", default="", help="ask for this key")
    parser.add_argument("--stay", action="store_true", help="do not end with standard input: as a container's program")
    return parser.parse_args()


def parameters(given):
    made = xllamacpp.CommonParams()
    made.model.path = given.model
    made.hostnames = [given.host]
    made.port = given.port
    made.n_parallel = given.slots
    made.n_ctx = given.context
    made.cpuparams.n_threads = given.threads
    made.cpuparams_batch.n_threads = given.threads
    made.n_threads_http = max(2, given.slots + 1)
    made.n_gpu_layers = 0
    made.warmup = False
    made.ui = False
    made.endpoint_metrics = True
    if given.embeddings:
        made.embedding = True
        made.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if given.name:
        made.model_alias = {given.name}
    if given.chat_template:
        with open(given.chat_template, encoding="utf-8") as template:
            made.chat_template = template.read()
    if given.api_key:
        made.api_keys = [given.api_key]
    return made


def main():
    given = arguments()
    if not os.path.isfile(given.model):
        sys.exit(f"no such model file: {given.model}")
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: os._exit(0))
    server = xllamacpp.Server(parameters(given))
    print("READY", server.listening_address, flush=True)
    while given.stay:
        signal.pause()
    while sys.stdin.buffer.read(4096):
        pass
    # Its threads may be in the middle of a token; nobody waits for it any more.
    os._exit(0)


if __name__ == "__main__":
    main()
