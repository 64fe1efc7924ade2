package foggen.app.screens

import android.os.Bundle
import android.widget.EditText
import android.widget.RadioGroup
import android.widget.Switch
import android.widget.TextView
import foggen.FoggenException
import foggen.OnUnreachable
import foggen.Route
import foggen.app.R
import foggen.app.settings.Settings
import foggen.app.settings.cloudOf
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.launch

private val ROUTES = mapOf(R.id.route_auto to Route.AUTO, R.id.route_local to Route.LOCAL_ONLY, R.id.route_cloud to Route.CLOUD_ONLY)

/** Endpoint, key, mode, and what waits for the cloud. */
class SettingsActivity : Screen(R.layout.settings) {
    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        if (saved == null) fill(demo.settings.load())
        onClick(R.id.save, ::save)
        onClick(R.id.flush) { demo.scope.launch { flush() } }
    }

    override fun watch(scope: CoroutineScope) {
        scope.launch { showQueue() }
    }

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

    private suspend fun flush() {
        try {
            val report = demo.assistant.flush() ?: return say(getString(R.string.flush_no_cloud))
            say(getString(R.string.flush_done, report.answered, report.remaining, report.stopped ?: getString(R.string.flush_end)))
        } catch (error: FoggenException) {
            say(error.message.orEmpty())
        }
    }

    private suspend fun showQueue() {
        try {
            val (answered, waiting) = demo.assistant.queued().partition { it.answered }
            say(getString(R.string.queue_state, waiting.size, answered.size))
            view<TextView>(R.id.answered).text = answered.joinToString("\n\n") { "${it.question}\n→ ${it.result.answer.orEmpty()}" }
        } catch (error: FoggenException) {
            say(error.message.orEmpty())
        }
    }

    private fun say(text: String) {
        view<TextView>(R.id.settings_state).text = text
    }
}
