package foggen.app.ask

import foggen.app.Problem
import foggen.app.problemOf
import foggen.outbox.FlushReport
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/** What the settings' screen shows of the queue's delivery. */
sealed interface FlushState {
    data object Idle : FlushState

    data class Sending(val report: FlushReport) : FlushState

    data class Ended(val report: FlushReport) : FlushState

    data object NoCloud : FlushState

    data class Failed(val problem: Problem) : FlushState
}

/** Delivers what waits for the cloud; [InstalledAssistant] does. */
fun interface Delivery {
    /** @return null where there is no cloud */
    suspend fun flush(progress: (FlushReport) -> Unit): FlushReport?
}

/**
 * Sends the queue, one delivery at a time.
 *
 * @param blocking runs what reads and writes files
 */
class FlushViewModel(
    private val delivery: Delivery,
    private val scope: CoroutineScope,
    private val blocking: CoroutineDispatcher,
) {
    private val states = MutableStateFlow<FlushState>(FlushState.Idle)
    private var job: Job? = null
    val state: StateFlow<FlushState> = states

    /** Starts a delivery; while one runs or ends, another is not begun. */
    fun flush() {
        if (states.value is FlushState.Sending) return
        states.value = FlushState.Sending(FlushReport())
        job = scope.launch {
            states.value = try {
                val report = withContext(blocking) { delivery.flush { states.value = FlushState.Sending(it) } }
                if (report == null) FlushState.NoCloud else FlushState.Ended(report)
            } catch (error: Throwable) {
                FlushState.Failed(problemOf(error) ?: throw error)
            }
        }.apply { invokeOnCompletion { if (it is CancellationException) states.value = FlushState.Idle } }
    }

    /** Ends a delivery; what was not answered keeps waiting. */
    fun cancel() {
        job?.cancel()
    }
}
