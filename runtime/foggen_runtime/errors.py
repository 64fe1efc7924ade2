"""Every error this project raises on purpose.

FoggenError
├── ConfigError        an option, a policy or a template asks for something impossible
├── CheckpointError    the directory or hub repository to export from is not usable
├── BundleError        the exported bundle is missing, altered or of another version
├── EngineError        onnxruntime failed while the model ran
├── QuestionError      the question cannot be asked: empty, broken text or too long
└── HandoffError       the cloud did not answer
"""


class FoggenError(Exception):
    """Base of all errors raised on purpose; its message is fit to be shown to a user."""


class ConfigError(FoggenError):
    """An option, a policy or a template asks for something impossible."""


class CheckpointError(FoggenError):
    """The checkpoint to export from is missing, incomplete or of an unknown kind."""


class BundleError(FoggenError):
    """The bundle is missing, altered, or of a version this runtime does not read."""


class EngineError(FoggenError):
    """Onnxruntime failed while the model ran, e.g. for want of memory."""


class QuestionError(FoggenError):
    """The question cannot be asked: it is empty, not valid text, or too long."""


class HandoffError(FoggenError):
    """The cloud did not answer.

    Attributes:
        reason: One word for the result's `reason` field, e.g. `cloud_unreachable`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
