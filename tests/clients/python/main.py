"""main.py CLIENT CASE BOOTSTRAP PREFIX: one case with one of the clients written for Python."""

import importlib
import logging
import sys
import traceback

from cases import NotApplicable

CLIENTS = {"confluent-kafka": "confluent", "kafka-python": "kafkapython", "aiokafka": "aio"}


def main():
    client, case, bootstrap, prefix = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    try:
        getattr(importlib.import_module(CLIENTS[client]), case)(bootstrap, f"{prefix}-{case}")
    except NotApplicable as why:
        print(why)
        sys.exit(3)
    except BaseException as error:  # the runner wants the reason in the last line, whatever it is
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)
        sys.exit(1)


main()
