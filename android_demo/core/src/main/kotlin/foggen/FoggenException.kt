package foggen

/** Every error this library raises on purpose; its message is fit to be shown to a user. */
sealed class FoggenException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** An option or a policy asks for something impossible. */
class ConfigException(message: String) : FoggenException(message)

/** The bundle is missing, altered, or of a version this library does not read. */
class BundleException(message: String, cause: Throwable? = null) : FoggenException(message, cause)

/** onnxruntime failed while the model ran, e.g. for want of memory. */
class EngineException(message: String, cause: Throwable? = null) : FoggenException(message, cause)

/** The question cannot be asked: it is empty or not valid text. */
class QuestionException(message: String) : FoggenException(message)

/**
 * A queued question could not be stored, or the outbox not be read.
 *
 * @property reason `outbox_full` or `outbox_failed`, for the result's `reason` field
 */
class OutboxException(
    message: String,
    val reason: String = "outbox_failed",
    cause: Throwable? = null,
) : FoggenException(message, cause)

/**
 * The cloud did not answer.
 *
 * @property reason one word for the result's `reason` field, e.g. `cloud_unreachable`
 * @property retryAfterMs how long the server asked to wait, if it did
 * @property status the HTTP status, where there was one
 * @property sent whether the question left the device
 */
class HandoffException(
    val reason: String,
    message: String,
    val retryAfterMs: Long? = null,
    val status: Int? = null,
    val sent: Boolean = false,
    cause: Throwable? = null,
) : FoggenException(message, cause)
