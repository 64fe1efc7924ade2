package foggen.outbox

import foggen.HandoffException
import foggen.cloud.CloudEvent
import foggen.cloud.Handoff
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.last
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock

private const val FIRST_WAIT_MS = 5_000.0 // doubled with each attempt
private const val MAX_WAIT_MS = 3_600_000.0
private const val FAILURES_IN_A_ROW = 3

// Failures that the next entry would meet too.
private val GENERAL = setOf("cloud_unreachable", "cloud_timeout")
private val GENERAL_STATUSES = setOf(401, 402, 403, 404, 429, 498, 503, 521, 522, 523, 529, 530)

/**
 * What a flush did.
 *
 * @property remaining entries that still wait
 * @property stopped why the flush ended before its end, e.g. `cloud_unreachable`; null if it did not
 * @property retryAfterMs after which the cloud said to come back; null if it did not
 */
data class FlushReport(
    val answered: Int = 0,
    val failed: Int = 0,
    val remaining: Int = 0,
    val stopped: String? = null,
    val retryAfterMs: Long? = null,
)

/**
 * Delivers what waits in the outbox.
 *
 * @param clockMs milliseconds since 1970
 * @param draw gives a number from 0 to 1, for the waits between deliveries of an entry
 */
class Flusher(
    private val outbox: Outbox,
    private val handoff: Handoff,
    private val clockMs: () -> Long = System::currentTimeMillis,
    private val draw: () -> Double = Math::random,
) {
    private val turn = Mutex()

    /**
     * Delivers what is due, oldest first, and stores the answers.
     *
     * It ends early when the next entry would fail as well: the cloud cannot be reached, takes too
     * long, asks to wait or refuses the key, or three deliveries in a row failed.
     *
     * @param waiting also entries whose next attempt is not due yet
     * @param progress told after each delivery
     */
    suspend fun flush(waiting: Boolean = false, progress: (FlushReport) -> Unit = {}): FlushReport = turn.withLock {
        var report = FlushReport(remaining = waitingEntries())
        var inARow = 0
        for (entry in outbox.entries().filter { !it.answered && (waiting || isDue(it)) }) {
            try {
                if (deliver(entry)) report = report.copy(answered = report.answered + 1)
                inARow = 0
            } catch (error: HandoffException) {
                outbox.putBack(entry.id, error.reason, clockMs() + waitMs(entry, error))
                inARow++
                val general = error.reason in GENERAL || error.status in GENERAL_STATUSES || error.retryAfterMs != null
                report = report.copy(
                    failed = report.failed + 1,
                    stopped = error.reason.takeIf { general || inARow == FAILURES_IN_A_ROW },
                    retryAfterMs = error.retryAfterMs,
                )
            }
            report = report.copy(remaining = waitingEntries())
            progress(report)
            if (report.stopped != null) break
        }
        report
    }

    private suspend fun waitingEntries(): Int = outbox.entries().count { !it.answered }

    private suspend fun deliver(entry: Entry): Boolean {
        val started = System.nanoTime()
        val answer = handoff.stream(entry.question, entry.id).filterIsInstance<CloudEvent.Answer>().last()
        val timing = entry.result.timingMs.copy(handoff = (System.nanoTime() - started) / 1e6)
        return outbox.answer(entry.id, answer.signed(entry.result, entry.question).copy(timingMs = timing))
    }

    /** Whether its time has come; a clock that was set back holds nothing up for longer than the longest wait. */
    private fun isDue(entry: Entry): Boolean = entry.notBeforeMs - clockMs() !in 1..MAX_WAIT_MS.toLong()

    private fun waitMs(entry: Entry, error: HandoffException): Long {
        error.retryAfterMs?.let { return it }
        val longest = minOf(FIRST_WAIT_MS * Math.pow(2.0, minOf(entry.attempts, 30).toDouble()), MAX_WAIT_MS)
        return (longest * (1 + draw()) / 2).toLong()
    }
}
