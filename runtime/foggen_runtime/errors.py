"""Every error this project raises on purpose.

FoggenError
├── ConfigError        an option, a policy or a template asks for something impossible
├── CheckpointError    the directory or hub repository to export from is not usable
├── BundleError        the exported bundle is missing, altered or of another version
├── DownloadError      a published bundle cannot be downloaded
├── EngineError        onnxruntime failed while the model ran
├── QuestionError      the question cannot be asked: empty, broken text or too long
├── HandoffError       the cloud did not answer
├── CancelledError     whoever asked the cloud no longer wants the answer
├── StateError         a file that foggen keeps cannot be read or written
│   └── OutboxFullError    the outbox is full
└── RequestError       a client asks the server for something it does not serve
"""


class FoggenError(Exception):
    """Base of all errors raised on purpose; its message is written for the user."""


class ConfigError(FoggenError):
    """An option, a policy or a template asks for something impossible."""


class CheckpointError(FoggenError):
    """The checkpoint to export from is missing, incomplete or of an unknown kind."""


class BundleError(FoggenError):
    """The bundle is missing, altered, or of a version this runtime does not read."""


class DownloadError(FoggenError):
    """A published bundle cannot be downloaded: no server, no file, or a link that keeps failing."""


class EngineError(FoggenError):
    """Onnxruntime failed while the model ran, e.g. because memory ran out."""


class QuestionError(FoggenError):
    """The question cannot be asked: it is empty, not valid text, or too long."""


class HandoffError(FoggenError):
    """The cloud did not answer.

    Attributes:
        reason: One word for the result's `reason` field, e.g. `cloud_unreachable`.
        status: The HTTP status, if there was one.
        retry_after: Seconds to wait before the next try, if the cloud or our circuit breaker says
            so.
        sent: Whether the question may have reached a server.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.sent = sent


class CancelledError(FoggenError):
    """Whoever asked the cloud no longer wants the answer."""


class RequestError(FoggenError):
    """A client asks the server for something it does not serve.

    Attributes:
        status: The HTTP status to answer with.
        code: One word for programs, e.g. `unsupported_value`.
        param: The field at fault, if there is one.
        headers: Extra headers for the answer, e.g. `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers


class StateError(FoggenError):
    """A file that foggen keeps (outbox, budget, decision log) cannot be read or written."""


class OutboxFullError(StateError):
    """The outbox is full."""
