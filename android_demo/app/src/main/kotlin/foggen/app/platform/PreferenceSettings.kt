package foggen.app.platform

import android.content.SharedPreferences
import foggen.OnUnreachable
import foggen.Route
import foggen.app.settings.Settings
import foggen.app.settings.SettingsStore

/** Settings in the application's preferences. */
class PreferenceSettings(private val preferences: SharedPreferences) : SettingsStore {
    override fun load(): Settings {
        val plain = Settings()
        return Settings(
            endpoint = preferences.getString("endpoint", plain.endpoint).orEmpty(),
            model = preferences.getString("model", plain.model).orEmpty(),
            route = Route.values().firstOrNull { it.name == preferences.getString("route", null) } ?: plain.route,
            onUnreachable = OnUnreachable.values().firstOrNull { it.name == preferences.getString("on_unreachable", null) }
                ?: plain.onUnreachable,
            tau = preferences.getFloat("tau", -1f).takeIf { it in 0f..1f }?.toString()?.toDouble(),
            allowLoopback = preferences.getBoolean("allow_loopback", plain.allowLoopback),
        )
    }

    override fun save(settings: Settings) = preferences.edit()
        .putString("endpoint", settings.endpoint)
        .putString("model", settings.model)
        .putString("route", settings.route.name)
        .putString("on_unreachable", settings.onUnreachable.name)
        .putFloat("tau", settings.tau?.toFloat() ?: -1f)
        .putBoolean("allow_loopback", settings.allowLoopback)
        .apply()
}
