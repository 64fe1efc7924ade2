package foggen.app.screens

import android.content.res.Resources
import foggen.app.Problem
import foggen.app.R
import foggen.app.background.LongRun
import foggen.outbox.FlushReport
import foggen.profile.ProfileEvent

private val REASONS = mapOf(
    "confident" to R.string.reason_confident,
    "below_tau" to R.string.reason_below_tau,
    "malformed" to R.string.reason_malformed,
    "context_length" to R.string.reason_context_length,
    "mode" to R.string.reason_mode,
    "local_error" to R.string.reason_local_error,
    "no_cloud" to R.string.reason_no_cloud,
    "cloud_unreachable" to R.string.reason_cloud_unreachable,
    "cloud_timeout" to R.string.reason_cloud_timeout,
    "cloud_rejected" to R.string.reason_cloud_rejected,
    "cloud_refused" to R.string.reason_cloud_refused,
    "cloud_error" to R.string.reason_cloud_error,
    "cloud_invalid" to R.string.reason_cloud_invalid,
    "outbox_full" to R.string.reason_outbox_full,
    "outbox_failed" to R.string.reason_outbox_failed,
)

private val PHASES = mapOf(
    "prefill" to R.string.phase_prefill,
    "decision" to R.string.phase_decision,
    "letter" to R.string.phase_letter,
    "answer" to R.string.phase_answer,
    "total" to R.string.phase_total,
)

/** Says states in the reader's language. */
class Wording(private val resources: Resources) {
    val numbers: Numbers = Numbers(
        resources.configuration.locales[0],
        Units(
            resources.getString(R.string.milliseconds),
            resources.getString(R.string.seconds),
            resources.getString(R.string.megabytes),
        ),
    )

    /** A result's `reason`; one that this version does not know is shown as it is. */
    fun reason(code: String): String = REASONS[code]?.let(resources::getString) ?: code

    /** A phase of a profile. */
    fun phase(name: String): String = PHASES[name]?.let(resources::getString) ?: name

    fun problem(problem: Problem): String = when (problem) {
        Problem.NoModel -> resources.getString(R.string.problem_no_model)
        is Problem.NoLibrary -> resources.getString(R.string.problem_no_library, problem.detail)
        is Problem.Storage -> resources.getString(R.string.problem_storage, problem.detail)
        is Problem.Other -> problem.message
    }

    fun measuring(event: ProfileEvent): String = when (event) {
        ProfileEvent.Loading -> resources.getString(R.string.benchmark_loading)
        is ProfileEvent.Asked -> resources.getQuantityString(R.plurals.benchmark_asked, event.of, event.done, event.of)
        ProfileEvent.Streaming -> resources.getString(R.string.benchmark_streaming)
        is ProfileEvent.Finished -> ""
    }

    /** How many questions wait and how many were answered. */
    fun queue(waiting: Int, answered: Int): String =
        resources.getQuantityString(R.plurals.queue_waiting, waiting, waiting) + "\n" +
            resources.getQuantityString(R.plurals.queue_answered, answered, answered)

    fun delivered(report: FlushReport): String {
        val end = report.stopped?.let { resources.getString(R.string.flush_stopped, reason(it)) } ?: resources.getString(R.string.flush_end)
        return queue(report.remaining, report.answered) + "\n" + end
    }

    /** The title and the text of a run's notification. */
    fun notice(run: LongRun): Pair<String, String> = when (run) {
        is LongRun.Measuring -> resources.getString(R.string.notice_benchmark) to measuring(run.event)
        is LongRun.Delivering -> resources.getString(R.string.notice_flush) to queue(run.report.remaining, run.report.answered)
    }
}
