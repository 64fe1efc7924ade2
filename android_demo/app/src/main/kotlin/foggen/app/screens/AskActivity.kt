package foggen.app.screens

import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.SeekBar
import android.widget.TextView
import foggen.Result
import foggen.Source
import foggen.app.R
import foggen.app.ask.AskState
import foggen.app.device.DeviceState
import foggen.bundle.ConfidenceKind
import kotlinx.coroutines.CoroutineScope
import kotlin.math.roundToInt

private const val TAU_STEPS = 20

/** Asks a question; shows who answers, how sure the model is, and the answer as it is written. */
class AskActivity : Screen(R.layout.ask) {
    private val slider get() = view<SeekBar>(R.id.tau)

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        onClick(R.id.ask, ::ask)
        onClick(R.id.stop) { demo.asking.cancel() }
        onClick(R.id.open_model) { open(ModelActivity::class.java) }
        onClick(R.id.open_settings) { open(SettingsActivity::class.java) }
        onClick(R.id.open_benchmark) { open(BenchmarkActivity::class.java) }
        onClick(R.id.share) { (demo.asking.state.value as? AskState.Answered)?.let { share(it.toJsonString(), "application/json") } }
        slider.max = TAU_STEPS
        slider.progress = ((demo.settings.load().tau ?: START_TAU) * TAU_STEPS).roundToInt()
        slider.setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
            override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) {
                if (fromUser) demo.settings.save(demo.settings.load().copy(tau = progress.toDouble() / TAU_STEPS))
                showTau()
            }

            override fun onStartTrackingTouch(bar: SeekBar) = Unit

            override fun onStopTrackingTouch(bar: SeekBar) = Unit
        })
        showTau()
    }

    override fun watch(scope: CoroutineScope) = with(scope) { show(demo.asking.state, ::render) }

    private fun ask() {
        val question = view<EditText>(R.id.question).text.toString()
        if (question.isBlank()) {
            view<EditText>(R.id.question).error = getString(R.string.question_needed)
        } else {
            demo.asking.ask(question, demo.settings.load().tau)
        }
    }

    private fun showTau() {
        val tau = demo.settings.load().tau
        view<TextView>(R.id.tau_label).text =
            if (tau == null) getString(R.string.tau_own) else getString(R.string.tau_label, wording.numbers.decimals(tau, 2))
    }

    private fun render(state: AskState) {
        view<View>(R.id.stop).isEnabled = state is AskState.Working
        view<Button>(R.id.share).visibility = if (state is AskState.Answered) View.VISIBLE else View.GONE
        when (state) {
            AskState.Empty -> show(Shown("", R.string.source_nobody))
            is AskState.Working -> show(Shown(state.answer, working(state), state.source, state.decision, state.levels))
            is AskState.Answered -> {
                val answer = state.result.answer ?: state.result.detail ?: getString(R.string.no_answer)
                show(Shown(answer, sourceLabel(state.result.source), state.result.source, state.result, state.levels))
            }
            is AskState.Failed -> show(Shown(wording.problem(state.problem), R.string.source_failed))
        }
        view<TextView>(R.id.device).text = (state as? AskState.Answered)?.let { conditions(it.result, it.device) }.orEmpty()
    }

    private class Shown(
        val answer: String,
        val label: Int,
        val source: Source? = null,
        val result: Result? = null,
        val levels: List<Double> = emptyList(),
    )

    private fun working(state: AskState.Working): Int = when {
        state.source != null -> sourceLabel(state.source)
        state.decision == null -> R.string.source_deciding
        else -> R.string.source_waiting
    }

    private fun show(shown: Shown) {
        view<TextView>(R.id.answer).text = shown.answer
        val badge = view<TextView>(R.id.source)
        val label = getString(shown.label)
        if (badge.text.toString() != label) badge.text = label // a live region speaks each change
        badge.setBackgroundResource(
            when (shown.source) {
                Source.LOCAL -> R.drawable.badge_local
                Source.CLOUD, Source.QUEUED -> R.drawable.badge_cloud
                else -> R.drawable.badge_plain
            },
        )
        view<TextView>(R.id.confidence).text = shown.result?.let(::confidence).orEmpty()
        val shares = shown.levels.zip(shown.result?.levelProbabilities.orEmpty())
        val rows = shares.map { (level, share) -> Row(wording.numbers.decimals(level, 2), wording.numbers.percent(share), share) }
        view<RowsView>(R.id.levels).show(getString(R.string.levels), rows)
    }

    private fun confidence(result: Result): String? {
        val numbers = wording.numbers
        val verbalized = numbers.decimals(result.confidence ?: return null, 2)
        val tau = numbers.decimals(result.tau, 2)
        val expected = result.expectedConfidence?.takeIf { result.tauOn == ConfidenceKind.EXPECTED }
            ?: return getString(R.string.confidence, verbalized, tau)
        return getString(R.string.confidence_expected, verbalized, numbers.decimals(expected, 2), tau)
    }

    private fun conditions(result: Result, device: DeviceState): String = with(wording.numbers) {
        listOfNotNull(
            result.timingMs.decision?.let { getString(R.string.time_decision, duration(it)) },
            getString(R.string.time_total, duration(result.timingMs.total)),
            getString(R.string.reason, wording.reason(result.reason)),
            device.thermalHeadroom?.let { getString(R.string.thermal_headroom, decimals(it, 2)) },
            device.batteryPercent?.let { getString(R.string.battery, percent(it / 100)) },
            device.charging?.let { getString(if (it) R.string.charging else R.string.not_charging) },
        ).joinToString(" · ")
    }

    private fun sourceLabel(source: Source): Int = when (source) {
        Source.LOCAL -> R.string.source_local
        Source.CLOUD -> R.string.source_cloud
        Source.QUEUED -> R.string.source_queued
        Source.NONE -> R.string.source_failed
    }

    private companion object {
        const val START_TAU = 0.5
    }
}
