package foggen.app.ask

import foggen.AskEvent
import foggen.Result
import foggen.Source
import foggen.app.Problem
import foggen.app.device.DeviceMonitor
import foggen.app.device.DeviceState
import foggen.app.problemOf
import foggen.json.compactJson
import foggen.json.jsonOf
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.launch

/** What the question's screen shows. */
sealed interface AskState {
    data object Empty : AskState

    /**
     * A question on its way.
     *
     * @property decision what the model on the device decided, once it has
     * @property source who writes the answer, once somebody does
     * @property levels the confidence levels that the decision's probabilities are of
     */
    data class Working(
        val answer: String = "",
        val source: Source? = null,
        val decision: Result? = null,
        val levels: List<Double> = emptyList(),
    ) : AskState

    data class Answered(val result: Result, val device: DeviceState, val levels: List<Double>) : AskState {
        /** The result as the runtime's schema has it, beside the device's state. */
        fun toJsonString(): String = compactJson(jsonOf("result" to result.toJson(), "device" to device.toJson()))
    }

    data class Failed(val problem: Problem) : AskState
}

/** Asks one question at a time; a new one ends the one before. */
class AskViewModel(
    private val assistant: Assistant,
    private val monitor: DeviceMonitor,
    private val scope: CoroutineScope,
) {
    private val states = MutableStateFlow<AskState>(AskState.Empty)
    private var job: Job? = null
    val state: StateFlow<AskState> = states

    /** @param tau null takes the settings' or the bundle's */
    fun ask(question: String, tau: Double?) {
        val before = job
        before?.cancel()
        states.value = AskState.Working()
        job = scope.launch {
            before?.join()
            try {
                assistant.stream(question, tau).collect { states.value = after(states.value, it) }
            } catch (error: Throwable) {
                states.value = AskState.Failed(problemOf(error) ?: throw error)
            }
        }
    }

    fun cancel() {
        job?.cancel()
        states.value = AskState.Empty
    }

    private fun after(state: AskState, event: AskEvent): AskState {
        val working = state as? AskState.Working ?: AskState.Working()
        return when (event) {
            is AskEvent.Decided -> working.copy(decision = event.result, levels = assistant.levels())
            is AskEvent.Piece -> working.copy(answer = working.answer + event.text, source = event.source)
            is AskEvent.Finished -> AskState.Answered(event.result, monitor.now(), assistant.levels())
        }
    }
}
