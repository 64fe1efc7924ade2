package foggen.app.device

import com.google.gson.JsonObject
import foggen.json.jsonOf
import foggen.profile.Surroundings

/**
 * The device at one moment; what it does not tell is null.
 *
 * @property thermalHeadroom forecast over ten seconds: at 1.0 the device slows itself down severely
 * @property thermalStatus 0 (none) to 6 (shutdown), as `PowerManager` counts
 */
data class DeviceState(
    val thermalHeadroom: Double? = null,
    val thermalStatus: Int? = null,
    val batteryPercent: Double? = null,
    val charging: Boolean? = null,
) {
    fun toJson(): JsonObject = jsonOf(
        "thermal_headroom" to thermalHeadroom,
        "thermal_status" to thermalStatus,
        "battery_percent" to batteryPercent,
        "charging" to charging,
    )
}

fun interface DeviceMonitor {
    fun now(): DeviceState
}

/**
 * What the kernel shows, and what only Android tells.
 *
 * @param board the device's name, e.g. its maker and model
 * @param system Android and its version
 */
class DeviceSurroundings(
    private val kernel: Surroundings,
    private val monitor: DeviceMonitor,
    private val board: String,
    private val system: String,
) : Surroundings by kernel {
    override fun device(): JsonObject = kernel.device().apply {
        addProperty("board", board)
        addProperty("system", system)
    }

    override fun conditions(): JsonObject {
        val state = monitor.now()
        val json = kernel.conditions()
        val thermal = listOf("thermal_headroom" to state.thermalHeadroom, "thermal_status" to state.thermalStatus?.toDouble())
            .filter { it.second != null }
            .map { (name, value) -> jsonOf("name" to name, "value" to value) }
        json.add("throttling", foggen.json.jsonValue(thermal))
        if (state.batteryPercent != null || state.charging != null) {
            val status = state.charging?.let { if (it) "Charging" else "Discharging" }
            val battery = jsonOf("name" to "battery", "charge_percent" to state.batteryPercent, "status" to status)
            json.add("batteries", foggen.json.jsonValue(listOf(battery)))
        }
        return json
    }
}
