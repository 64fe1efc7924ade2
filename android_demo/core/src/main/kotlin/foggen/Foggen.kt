package foggen

import foggen.cloud.Handoff
import foggen.outbox.Outbox
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.last
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import java.nio.file.Path
import java.util.UUID

/** What becomes of a question, in order: a decision unless the route skips it, pieces, the end. */
sealed interface AskEvent {
    /** The model on the device has decided; [result] holds the confidence, and no answer yet. */
    data class Decided(val result: Result) : AskEvent

    /** The next piece of the answer's text. */
    data class Piece(val text: String, val source: Source) : AskEvent

    /** The whole result; nothing comes after it. */
    data class Finished(val result: Result) : AskEvent
}

/** What a question may need beside the model. */
class Services(
    val policy: Policy = Policy(),
    val handoff: Handoff? = null,
    val outbox: Outbox? = null,
    val newId: () -> String = { UUID.randomUUID().toString() },
    val dispatcher: CoroutineDispatcher = Dispatchers.Default,
)

/** Asks a question, gets an answer from here or from the cloud; questions wait for each other. */
class Foggen(val model: LocalModel, private val services: Services = Services()) : AutoCloseable {
    private val turn = Mutex()
    private val bundle = BundleRef(model.bundle.manifest.model.name, model.bundle.manifest.sha256)

    /**
     * Answers a question here, or hands it off; cancelling the collection cancels the work.
     *
     * @throws QuestionException the question is empty or not valid Unicode
     */
    fun stream(question: String, options: AskOptions = AskOptions()): Flow<AskEvent> =
        flow { turn.withLock { Asking(model, services, question, options).run(blank(options), this) } }
            .flowOn(services.dispatcher)

    /** As [stream], but returns the result alone. */
    suspend fun ask(question: String, options: AskOptions = AskOptions()): Result =
        stream(question, options).filterIsInstance<AskEvent.Finished>().last().result

    override fun close() = model.close()

    private fun blank(options: AskOptions): Result {
        val routing = model.bundle.manifest.routing
        val (tau, source) = when {
            options.tau != null -> options.tau to "call"
            services.policy.tau != null -> services.policy.tau to "policy"
            else -> routing.tau to if (routing.calibrated) "calibration" else "default"
        }
        return Result(tau, source, bundle, id = services.newId(), prefixSource = model.prefixSource, tauOn = routing.on)
    }

    companion object {
        /**
         * Loads a bundle from its directory.
         *
         * @throws BundleException it is missing, altered, or of a version this library does not read
         */
        suspend fun open(
            directory: Path,
            services: Services = Services(),
            options: OpenOptions = OpenOptions(),
        ): Foggen = Foggen(LocalModel.open(directory, options), services)
    }
}
