package foggen.app.screens

import android.os.Bundle
import android.view.View
import android.widget.EditText
import android.widget.RadioGroup
import android.widget.Switch
import android.widget.TextView
import foggen.FoggenException
import foggen.OnUnreachable
import foggen.Route
import foggen.app.R
import foggen.app.ask.FlushState
import foggen.app.settings.Settings
import foggen.app.settings.cloudOf
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

private val ROUTES = mapOf(R.id.route_auto to Route.AUTO, R.id.route_local to Route.LOCAL_ONLY, R.id.route_cloud to Route.CLOUD_ONLY)

/** Endpoint, key, mode, and what waits for the cloud. */
class SettingsActivity : Screen(R.layout.settings) {
    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        if (saved == null) fill(demo.settings.load())
        onClick(R.id.save, ::save)
        onClick(R.id.flush) {
            askToNotify()
            demo.flushing.flush()
        }
    }

    override fun watch(scope: CoroutineScope) = with(scope) { show(demo.flushing.state) { render(it) } }

    private fun fill(settings: Settings) {
        view<EditText>(R.id.endpoint).setText(settings.endpoint)
        view<EditText>(R.id.model_name).setText(settings.model)
        view<EditText>(R.id.key).hint = getString(if (demo.secrets.load() == null) R.string.key_absent else R.string.key_stored)
        view<RadioGroup>(R.id.route).check(ROUTES.entries.first { it.value == settings.route }.key)
        view<Switch>(R.id.queue).isChecked = settings.onUnreachable == OnUnreachable.QUEUE
        view<Switch>(R.id.loopback).isChecked = settings.allowLoopback
    }

    private fun save() {
        val typed = view<EditText>(R.id.key).text.toString()
        val settings = demo.settings.load().copy(
            endpoint = view<EditText>(R.id.endpoint).text.toString().trim(),
            model = view<EditText>(R.id.model_name).text.toString().trim(),
            route = ROUTES.getValue(view<RadioGroup>(R.id.route).checkedRadioButtonId),
            onUnreachable = if (view<Switch>(R.id.queue).isChecked) OnUnreachable.QUEUE else OnUnreachable.ANSWER_LOCALLY,
            allowLoopback = view<Switch>(R.id.loopback).isChecked,
        )
        try {
            cloudOf(settings, typed)
        } catch (error: FoggenException) {
            return say(error.message.orEmpty())
        }
        demo.settings.save(settings)
        if (typed.isNotEmpty() || settings.endpoint.isEmpty()) demo.secrets.save(typed)
        demo.scope.launch { demo.assistant.reset() }
        finish()
    }

    private fun CoroutineScope.render(state: FlushState) {
        view<View>(R.id.flush).isEnabled = state !is FlushState.Sending
        when (state) {
            FlushState.Idle -> Unit
            is FlushState.Sending -> say(wording.queue(state.report.remaining, state.report.answered))
            is FlushState.Ended -> say(wording.delivered(state.report))
            FlushState.NoCloud -> say(wording.reason("no_cloud"))
            is FlushState.Failed -> say(wording.problem(state.problem))
        }
        if (state !is FlushState.Sending) launch { showQueue(counted = state == FlushState.Idle) }
    }

    /** @param counted whether to say how many questions wait, in place of how the delivery ended */
    private suspend fun showQueue(counted: Boolean) {
        try {
            val (answered, waiting) = withContext(Dispatchers.IO) { demo.assistant.queued() }.partition { it.answered }
            if (counted) say(wording.queue(waiting.size, answered.size))
            view<TextView>(R.id.answered).text = answered.joinToString("\n\n") { "${it.question}\n→ ${it.result.answer.orEmpty()}" }
        } catch (error: FoggenException) {
            say(error.message.orEmpty())
        }
    }

    private fun say(text: String) {
        view<TextView>(R.id.settings_state).text = text
    }
}
