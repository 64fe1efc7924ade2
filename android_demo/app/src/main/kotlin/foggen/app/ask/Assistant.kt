package foggen.app.ask

import foggen.AskEvent
import foggen.AskOptions
import foggen.EngineFactory
import foggen.Foggen
import foggen.OnUnreachable
import foggen.OpenOptions
import foggen.Services
import foggen.app.NoModelException
import foggen.app.device.DeviceMonitor
import foggen.app.install.BundleLibrary
import foggen.app.settings.SecretStore
import foggen.app.settings.SettingsStore
import foggen.app.settings.cloudOf
import foggen.app.settings.policyOf
import foggen.app.settings.routeOf
import foggen.cloud.CloudClient
import foggen.outbox.FlushReport
import foggen.outbox.Flusher
import foggen.outbox.Outbox
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.emitAll
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import java.nio.file.Path

/** Answers questions; tests give their own. */
interface Assistant {
    /** @param tau null takes the settings' or the bundle's */
    fun stream(question: String, tau: Double?): Flow<AskEvent>

    /** The confidence levels of the bundle that answers; none before the first question. */
    fun levels(): List<Double>

    /** Lets go of the model and the cloud, so that the next question takes new settings. */
    suspend fun reset()
}

/** What the installed assistant is made of. */
class AssistantParts(
    val library: BundleLibrary,
    val settings: SettingsStore,
    val secrets: SecretStore,
    val monitor: DeviceMonitor,
    val engine: EngineFactory,
    val journal: Path,
)

/** The installed bundle with the cloud of the settings, loaded when the first question comes. */
class InstalledAssistant(private val parts: AssistantParts) : Assistant, Delivery {
    private val turn = Mutex()
    private val journals = Mutex()
    private var opened: Foggen? = null
    private var outbox: Outbox? = null
    private var cloud: CloudClient? = null

    override fun stream(question: String, tau: Double?): Flow<AskEvent> = flow {
        turn.withLock {
            val route = routeOf(parts.settings.load(), parts.monitor.now().thermalHeadroom)
            emitAll(foggen().stream(question, AskOptions(route = route, tau = tau)))
        }
    }

    override fun levels(): List<Double> = opened?.model?.bundle?.manifest?.template?.levelValues?.toList().orEmpty()

    override suspend fun reset() = turn.withLock {
        opened?.close()
        opened = null
        cloud = null
    }

    /**
     * Delivers the queued questions; null where there is no cloud.
     *
     * @throws foggen.ConfigException the settings name no usable cloud
     */
    override suspend fun flush(progress: (FlushReport) -> Unit): FlushReport? {
        val client = turn.withLock { client() } ?: return null
        return Flusher(journal(), client).flush(waiting = true, progress)
    }

    /** The questions that wait or were answered later. */
    suspend fun queued() = journal().entries()

    private suspend fun foggen(): Foggen = opened ?: run {
        val directory = parts.library.current() ?: throw NoModelException()
        val settings = parts.settings.load()
        val queue = if (settings.onUnreachable == OnUnreachable.QUEUE) journal() else null
        val services = Services(policyOf(settings), client(), queue)
        Foggen.open(directory, services, OpenOptions(parts.engine, notes = parts.library.notes)).also { opened = it }
    }

    private fun client(): CloudClient? =
        cloud ?: cloudOf(parts.settings.load(), parts.secrets.load())?.let(::CloudClient).also { cloud = it }

    private suspend fun journal(): Outbox = journals.withLock { outbox ?: Outbox(parts.journal).also { outbox = it } }
}
