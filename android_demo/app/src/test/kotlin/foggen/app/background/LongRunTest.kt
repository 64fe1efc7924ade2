package foggen.app.background

import foggen.app.Problem
import foggen.app.ask.FlushState
import foggen.app.benchmark.BenchmarkState
import foggen.outbox.FlushReport
import foggen.profile.ProfileEvent
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test

class LongRunTest {
    private val measuring = BenchmarkState.Running(ProfileEvent.Asked(3, 20))
    private val sending = FlushState.Sending(FlushReport(answered = 2, failed = 1, remaining = 5))

    @Test
    fun `a benchmark comes before a delivery, and what has ended is none`() {
        assertEquals(LongRun.Measuring(measuring.event), longRunOf(measuring, sending))
        assertEquals(LongRun.Delivering(sending.report), longRunOf(BenchmarkState.Failed(Problem.NoModel), sending))
        for (ended in listOf(FlushState.Idle, FlushState.NoCloud, FlushState.Ended(FlushReport()), FlushState.Failed(Problem.NoModel))) {
            assertNull(longRunOf(BenchmarkState.Idle, ended))
        }
    }

    @Test
    fun `how far a run is, where that can be told`() {
        assertEquals(Share(3, 20), shareOf(LongRun.Measuring(measuring.event)))
        assertNull(shareOf(LongRun.Measuring(ProfileEvent.Loading)))
        // Two of seven are answered and one of the five others was tried.
        assertEquals(Share(3, 7), shareOf(LongRun.Delivering(sending.report)))
        assertNull(shareOf(LongRun.Delivering(FlushReport(remaining = 7))))
    }
}
