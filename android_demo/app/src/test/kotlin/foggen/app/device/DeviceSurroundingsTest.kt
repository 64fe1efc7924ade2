package foggen.app.device

import foggen.json.parseJson
import foggen.profile.LinuxSurroundings
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File

class DeviceSurroundingsTest {
    @TempDir
    lateinit var root: File

    private fun surroundings(state: DeviceState) = DeviceSurroundings(LinuxSurroundings(root), { state }, "Maker Phone", "Android 15")

    @Test
    fun `heat and battery are among the conditions`() {
        val conditions = surroundings(DeviceState(0.5, 1, 64.0, charging = false)).conditions()
        assertEquals(parseJson("""[{"name":"thermal_headroom","value":0.5},{"name":"thermal_status","value":1.0}]"""), conditions.get("throttling"))
        assertEquals(parseJson("""[{"name":"battery","charge_percent":64.0,"status":"Discharging"}]"""), conditions.get("batteries"))
    }

    @Test
    fun `what is not known is left out`() {
        val conditions = surroundings(DeviceState()).conditions()
        assertTrue(conditions.getAsJsonArray("throttling").isEmpty)
        assertTrue(conditions.getAsJsonArray("batteries").isEmpty)
        val device = surroundings(DeviceState()).device()
        assertEquals("Maker Phone" to "Android 15", device.get("board").asString to device.get("system").asString)
    }
}
