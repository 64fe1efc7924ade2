package foggen.cloud

import foggen.HandoffException

/** What a [Breaker] is doing. */
sealed interface BreakerState {
    /** Attempts pass; so many in a row have failed. */
    data class Closed(val failures: Int) : BreakerState

    /** Attempts are refused until a time of the clock, then one may probe. */
    data class Open(val untilMs: Long, val failures: Int) : BreakerState

    /** One probe is under way. */
    data class HalfOpen(val failures: Int) : BreakerState
}

/**
 * A circuit breaker: a server that keeps failing is left alone for a while.
 *
 *     closed ── failures in a row ──> open ── cool-down over ──> half-open ── one probe ──> closed or open
 *
 * The pattern is Nygard's (Release It!, chapter 5).
 *
 * @param clockMs milliseconds that never run backwards
 */
class Breaker(
    private val failures: Int,
    private val cooldownMs: Long,
    private val clockMs: () -> Long,
) {
    /** What it is doing; a cool-down that is over shows only at the next attempt. */
    var state: BreakerState = BreakerState.Closed(0)
        @Synchronized get
        private set

    /**
     * Lets one attempt pass.
     *
     * @throws HandoffException `cloud_unreachable`; nothing was sent
     */
    @Synchronized
    fun enter() {
        when (val now = state) {
            is BreakerState.Closed -> return
            is BreakerState.HalfOpen -> throw refusal(0)
            is BreakerState.Open -> {
                val left = now.untilMs - clockMs()
                if (left > 0) throw refusal(left)
                state = BreakerState.HalfOpen(now.failures)
            }
        }
    }

    /**
     * Learns from how an attempt ended.
     *
     * @param well null where the caller gave up: that tells nothing
     */
    @Synchronized
    fun leave(well: Boolean?) {
        val now = state
        val count = when (now) {
            is BreakerState.Closed -> now.failures
            is BreakerState.HalfOpen -> now.failures
            is BreakerState.Open -> return // began before it opened
        }
        state = when {
            well == true -> BreakerState.Closed(0)
            well == null && now is BreakerState.HalfOpen -> BreakerState.Open(clockMs(), count)
            well == null -> now
            now is BreakerState.HalfOpen || count + 1 >= failures -> BreakerState.Open(clockMs() + cooldownMs, count + 1)
            else -> BreakerState.Closed(count + 1)
        }
    }

    private fun refusal(leftMs: Long) = HandoffException(
        "cloud_unreachable",
        "cloud: circuit breaker open after failures in a row, another $leftMs ms",
        retryAfterMs = leftMs,
    )
}
