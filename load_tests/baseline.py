"""What `banditd serve` is measured against: a bare FastAPI + pydantic endpoint that answers with a constant.

It runs as users run FastAPI: uvicorn with uvloop and httptools, an async handler, the request parsed by a pydantic
model, the answer validated and written by one.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field


class Request(BaseModel):
    """The fields of a /v1/recommend body that the load uses, with their rules."""

    model_config = ConfigDict(extra="forbid")

    surface: str | None = Field(default=None, min_length=1, max_length=128)
    user: str | None = Field(default=None, min_length=1, max_length=128)
    embedding: list[float] | None = None
    features: dict[str, float] | None = None
    items: list[str] | None = Field(default=None, max_length=1000)
    exclude: list[str] | None = Field(default=None, max_length=1000)
    n: int | None = Field(default=None, ge=1, le=100)


class ServedItem(BaseModel):
    id: str
    position: int
    propensity: float | None


class Answer(BaseModel):
    """As /v1/recommend answers."""

    decision_id: str
    surface: str
    policy: str
    mode: str
    items: list[ServedItem]
    receipt: str
    n_candidates: int
    params_version: str
    params_age_ms: int
    graph_version: str | None = None


def create_app(answer: Answer) -> FastAPI:
    """The application: POST /v1/recommend answers `answer`, whatever is asked."""
    app = FastAPI()

    @app.post("/v1/recommend")
    async def recommend(request: Request) -> Answer:
        return answer

    return app


def main() -> None:
    """Read the constant answer, JSON, from the file named by the only argument and serve it on a free port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answer", type=argparse.FileType("rb"))
    with parser.parse_args().answer as file:
        app = create_app(Answer.model_validate_json(file.read()))
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
    # uvicorn raises a caught signal again once it has stopped: this makes that a good end.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        print(f"baseline serves on http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
