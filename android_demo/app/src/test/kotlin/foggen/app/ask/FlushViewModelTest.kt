package foggen.app.ask

import foggen.ConfigException
import foggen.app.Problem
import foggen.outbox.FlushReport
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import java.io.IOException

class FlushViewModelTest {
    private var flushes = 0

    private fun viewModel(delivery: Delivery) =
        FlushViewModel({ flushes++; delivery.flush(it) }, CoroutineScope(SupervisorJob() + Dispatchers.Unconfined), Dispatchers.Unconfined)

    @Test
    fun `a delivery shows how far it is, and how it ended`() {
        val gate = CompletableDeferred<Unit>()
        val viewModel = viewModel { progress ->
            progress(FlushReport(answered = 1, remaining = 2))
            gate.await()
            FlushReport(answered = 1, failed = 1, remaining = 2, stopped = "cloud_timeout")
        }
        assertEquals(FlushState.Idle, viewModel.state.value)
        viewModel.flush()
        viewModel.flush()
        assertEquals(FlushState.Sending(FlushReport(answered = 1, remaining = 2)), viewModel.state.value)
        gate.complete(Unit)
        assertEquals(FlushState.Ended(FlushReport(1, 1, 2, "cloud_timeout")), viewModel.state.value)
        assertEquals(1, flushes)
    }

    @Test
    fun `a cancelled delivery ends before another begins`() {
        val gate = CompletableDeferred<Unit>()
        val viewModel = viewModel { gate.await(); FlushReport() }
        viewModel.flush()
        viewModel.cancel()
        assertEquals(FlushState.Idle, viewModel.state.value)
        gate.complete(Unit)
        viewModel.flush()
        assertEquals(FlushState.Ended(FlushReport()), viewModel.state.value)
        viewModel.cancel()
        assertEquals(FlushState.Ended(FlushReport()), viewModel.state.value)
    }

    @Test
    fun `without a cloud, and where something fails, that is said`() {
        assertEquals(FlushState.NoCloud, viewModel { null }.apply { flush() }.state.value)
        val failures = mapOf(ConfigException("endpoint: wrong") to Problem.Other("endpoint: wrong"), IOException("full") to Problem.Storage("full"))
        for ((error, problem) in failures) assertEquals(FlushState.Failed(problem), viewModel { throw error }.apply { flush() }.state.value)
    }
}
