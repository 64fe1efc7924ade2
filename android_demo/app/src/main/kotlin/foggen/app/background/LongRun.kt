package foggen.app.background

import foggen.app.ask.FlushState
import foggen.app.benchmark.BenchmarkState
import foggen.outbox.FlushReport
import foggen.profile.ProfileEvent

/** What goes on whether or not a screen shows it. */
sealed interface LongRun {
    data class Measuring(val event: ProfileEvent) : LongRun

    data class Delivering(val report: FlushReport) : LongRun
}

/** How much of a run is done. */
data class Share(val done: Int, val of: Int)

/** Returns the run that is under way, a benchmark before a delivery; null where there is none. */
fun longRunOf(benchmark: BenchmarkState, flush: FlushState): LongRun? = when {
    benchmark is BenchmarkState.Running -> LongRun.Measuring(benchmark.event)
    flush is FlushState.Sending -> LongRun.Delivering(flush.report)
    else -> null
}

/** Returns how far a run is; null where that cannot be told. */
fun shareOf(run: LongRun): Share? = when (run) {
    is LongRun.Measuring -> (run.event as? ProfileEvent.Asked)?.let { Share(it.done, it.of) }
    is LongRun.Delivering -> {
        val tried = run.report.answered + run.report.failed
        if (tried == 0) null else Share(tried, run.report.answered + run.report.remaining)
    }
}
