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
            if (tau == null) getString(R.string.tau_own) else getString(R.string.tau_label, numbers.decimals(tau, 2))
    }

    private fun render(state: AskState) {
        view<View>(R.id.stop).isEnabled = state is AskState.Working
        view<Button>(R.id.share).visibility = if (state is AskState.Answered) View.VISIBLE else View.GONE
        when (state) {
            AskState.Empty -> show(Shown("", R.string.source_nobody, null, null))
            is AskState.Working -> show(Shown(state.answer, working(state), state.source, state.decision))
            is AskState.Answered -> {
                val answer = state.result.answer ?: state.result.detail ?: getString(R.string.no_answer)
                show(Shown(answer, sourceLabel(state.result.source), state.result.source, state.result))
            }
            is AskState.Failed -> show(Shown(state.message, R.string.source_failed, null, null))
        }
        view<TextView>(R.id.device).text = (state as? AskState.Answered)?.let { conditions(it.result, it.device) }.orEmpty()
    }

    private class Shown(val answer: String, val label: Int, val source: Source?, val result: Result?)

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
        showConfidence(shown.result)
    }

    private fun showConfidence(result: Result?) {
        val confidence = result?.confidence
        view<TextView>(R.id.confidence).text =
            if (confidence == null) "" else getString(R.string.confidence, numbers.decimals(confidence, 2), numbers.decimals(result.tau, 2))
        val shares = result?.levelProbabilities.orEmpty()
        val levels = view<RowsView>(R.id.levels)
        levels.visibility = if (shares.isEmpty()) View.GONE else View.VISIBLE
        levels.show(
            getString(R.string.levels),
            shares.mapIndexed { index, share -> Row(level(index, shares.size), numbers.percent(share), share) },
        )
    }

    private fun level(index: Int, count: Int) = numbers.decimals(if (count > 1) index.toDouble() / (count - 1) else 1.0, 2)

    private fun conditions(result: Result, device: DeviceState): String = listOfNotNull(
        result.timingMs.decision?.let { getString(R.string.time_decision, numbers.duration(it)) },
        getString(R.string.time_total, numbers.duration(result.timingMs.total)),
        getString(R.string.reason, result.reason),
        device.thermalHeadroom?.let { getString(R.string.thermal_headroom, numbers.decimals(it, 2)) },
        device.batteryPercent?.let { getString(R.string.battery, numbers.percent(it / 100)) },
        device.charging?.let { getString(if (it) R.string.charging else R.string.not_charging) },
    ).joinToString(" · ")

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
