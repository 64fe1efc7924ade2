package foggen.app.settings

import foggen.ConfigException
import foggen.OnUnreachable
import foggen.Policy
import foggen.Route
import foggen.app.install.InstallException
import foggen.app.install.checkAddress
import foggen.cloud.Cloud

// From here on a device is about to slow itself down; 1.0 is where it does.
private const val HOT = 0.95

/**
 * What a user chose; the key of the endpoint is not among it, see [SecretStore].
 *
 * @property tau null takes the bundle's
 * @property allowLoopback whether plain HTTP to this device itself is allowed
 */
data class Settings(
    val endpoint: String = "",
    val model: String = "",
    val route: Route = Route.AUTO,
    val onUnreachable: OnUnreachable = OnUnreachable.ANSWER_LOCALLY,
    val tau: Double? = null,
    val allowLoopback: Boolean = false,
)

/** Keeps settings between starts. */
interface SettingsStore {
    fun load(): Settings

    fun save(settings: Settings)
}

/** Keeps the endpoint's key where other applications and backups cannot read it. */
interface SecretStore {
    fun load(): String?

    /** Stores the key; null forgets it. */
    fun save(key: String?)
}

/**
 * Returns the cloud of the settings; null where no endpoint is set.
 *
 * @throws ConfigException a field is wrong, or the endpoint is plain HTTP
 */
fun cloudOf(settings: Settings, key: String?): Cloud? {
    if (settings.endpoint.isBlank()) return null
    try {
        checkAddress(settings.endpoint.trim(), settings.allowLoopback)
    } catch (error: InstallException) {
        throw ConfigException("endpoint: ${error.message}")
    }
    return Cloud(settings.endpoint.trim(), settings.model.trim(), key?.takeIf { it.isNotEmpty() })
}

fun policyOf(settings: Settings) = Policy(settings.route, settings.tau, settings.onUnreachable)

/** The route of a question: a device near its thermal limit leaves the work to the cloud, if there is one. */
fun routeOf(settings: Settings, thermalHeadroom: Double?): Route {
    val hot = thermalHeadroom != null && thermalHeadroom >= HOT
    return if (settings.route == Route.AUTO && hot && settings.endpoint.isNotBlank()) Route.CLOUD_ONLY else settings.route
}
