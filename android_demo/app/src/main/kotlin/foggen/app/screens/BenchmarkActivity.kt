package foggen.app.screens

import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.WindowManager
import android.widget.TextView
import foggen.ConfigException
import foggen.app.Problem
import foggen.app.R
import foggen.app.benchmark.BenchmarkRequest
import foggen.app.benchmark.BenchmarkState
import foggen.app.benchmark.barsOf
import foggen.app.benchmark.ratesOf
import foggen.json.compactJson
import kotlinx.coroutines.CoroutineScope

private const val ACTION = "foggen.app.action.BENCHMARK"

/** Measures the installed bundle; by its intent also unattended. */
class BenchmarkActivity : Screen(R.layout.benchmark) {
    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        // A screen that goes dark slows the processor down.
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        onClick(R.id.run) {
            askToNotify()
            demo.benchmark.run(BenchmarkRequest())
        }
        onClick(R.id.stop) { demo.benchmark.cancel() }
        onClick(R.id.share) {
            (demo.benchmark.state.value as? BenchmarkState.Finished)?.let { share(compactJson(it.profile), "application/json") }
        }
        if (saved == null) obey(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        obey(intent)
    }

    override fun watch(scope: CoroutineScope) = with(scope) { show(demo.benchmark.state, ::render) }

    private fun obey(intent: Intent) {
        if (intent.action != ACTION) return
        try {
            demo.benchmark.run(BenchmarkRequest.of(extras(intent)))
        } catch (error: ConfigException) {
            demo.benchmark.fail(demo.profiles.resolve(BenchmarkRequest().output), Problem.Other(error.message.orEmpty()))
        }
    }

    @Suppress("DEPRECATION") // Only this reads an extra of whatever type it has.
    private fun extras(intent: Intent): Map<String, Any?> =
        intent.extras?.let { extras -> extras.keySet().associateWith { extras.get(it) } }.orEmpty()

    private fun render(state: BenchmarkState) {
        val finished = state as? BenchmarkState.Finished
        view<View>(R.id.run).isEnabled = state !is BenchmarkState.Running
        view<View>(R.id.stop).isEnabled = state is BenchmarkState.Running
        view<View>(R.id.share).visibility = if (finished == null) View.GONE else View.VISIBLE
        view<TextView>(R.id.benchmark_state).text = when (state) {
            BenchmarkState.Idle -> getString(R.string.benchmark_idle)
            is BenchmarkState.Running -> wording.measuring(state.event)
            is BenchmarkState.Finished -> getString(R.string.benchmark_finished, rates(state), state.file.toString())
            is BenchmarkState.Failed -> getString(R.string.benchmark_failed, wording.problem(state.problem))
        }
        view<RowsView>(R.id.chart).show(getString(R.string.chart), finished?.let(::chart).orEmpty())
    }

    private fun rates(state: BenchmarkState.Finished): String =
        ratesOf(state.profile).entries.joinToString(", ") { (name, rate) -> getString(R.string.rate, name, wording.numbers.decimals(rate, 1)) }

    private fun chart(state: BenchmarkState.Finished): List<Row> {
        val bars = barsOf(state.profile)
        val longest = bars.maxOfOrNull { it.slow } ?: 1.0
        return bars.map { Row(wording.phase(it.phase), wording.numbers.duration(it.median), it.median / longest, it.slow / longest) }
    }
}
