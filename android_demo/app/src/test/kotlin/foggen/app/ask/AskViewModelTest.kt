package foggen.app.ask

import foggen.AskEvent
import foggen.BundleException
import foggen.BundleRef
import foggen.Result
import foggen.Source
import foggen.app.NoModelException
import foggen.app.Problem
import foggen.app.device.DeviceMonitor
import foggen.app.device.DeviceState
import foggen.json.parseJson
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

private val DECIDED = Result(0.5, "call", BundleRef("tiny", "00"), id = "1", confidence = 0.75)

private val LEVELS = listOf(0.0, 0.75, 1.0)

private class FakeAssistant(private val events: Map<String, Flow<AskEvent>>) : Assistant {
    val asked = ArrayList<Pair<String, Double?>>()

    override fun stream(question: String, tau: Double?): Flow<AskEvent> = events.getValue(question).also { asked += question to tau }

    override fun levels() = LEVELS

    override suspend fun reset() = Unit
}

class AskViewModelTest {
    private val gate = CompletableDeferred<Unit>()
    private var cancelled = false
    private val assistant = FakeAssistant(
        mapOf(
            "local" to flow {
                emit(AskEvent.Decided(DECIDED))
                emit(AskEvent.Piece("B) ", Source.LOCAL))
                gate.await()
                emit(AskEvent.Piece("Jupiter", Source.LOCAL))
                emit(AskEvent.Finished(DECIDED.copy(source = Source.LOCAL, answer = "B) Jupiter")))
            },
            "stuck" to flow {
                try {
                    awaitCancellation()
                } finally {
                    cancelled = true
                }
            },
            "broken" to flow { throw BundleException("foggen.json: cannot be read") },
            "bare" to flow { throw NoModelException() },
            "unlinked" to flow { throw UnsatisfiedLinkError("onnxruntime4j_jni") },
        ),
    )
    private val device = DeviceState(0.4, 0, 81.0, charging = true)
    private val viewModel = AskViewModel(assistant, DeviceMonitor { device }, CoroutineScope(Dispatchers.Unconfined))

    @Test
    fun `an answer grows, and ends with the device's state`() {
        assertEquals(AskState.Empty, viewModel.state.value)
        viewModel.ask("local", 0.5)
        assertEquals(AskState.Working("B) ", Source.LOCAL, DECIDED, LEVELS), viewModel.state.value)
        gate.complete(Unit)
        val answered = viewModel.state.value as AskState.Answered
        assertEquals("B) Jupiter" to LEVELS, answered.result.answer to answered.levels)
        val json = parseJson(answered.toJsonString()).asJsonObject
        assertEquals(Result.of(json.getAsJsonObject("result")), answered.result)
        assertEquals("""{"thermal_headroom":0.4,"thermal_status":0,"battery_percent":81.0,"charging":true}""", json.get("device").toString())
        assertEquals(listOf<Pair<String, Double?>>("local" to 0.5), assistant.asked)
    }

    @Test
    fun `a new question ends the one before`() {
        viewModel.ask("stuck", null)
        viewModel.ask("local", null)
        assertTrue(cancelled)
        gate.complete(Unit)
        assertTrue(viewModel.state.value is AskState.Answered)
    }

    @Test
    fun `stopping clears the screen`() {
        viewModel.ask("stuck", null)
        viewModel.cancel()
        assertTrue(cancelled)
        assertEquals(AskState.Empty, viewModel.state.value)
    }

    @Test
    fun `failures are said`() {
        viewModel.ask("broken", null)
        assertEquals(AskState.Failed(Problem.Other("foggen.json: cannot be read")), viewModel.state.value)
        viewModel.ask("bare", null)
        assertEquals(AskState.Failed(Problem.NoModel), viewModel.state.value)
        viewModel.ask("unlinked", null)
        assertEquals(AskState.Failed(Problem.NoLibrary("onnxruntime4j_jni")), viewModel.state.value)
    }
}
