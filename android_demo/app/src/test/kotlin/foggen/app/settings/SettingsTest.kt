package foggen.app.settings

import foggen.ConfigException
import foggen.OnUnreachable
import foggen.Policy
import foggen.Route
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class SettingsTest {
    private val cloud = Settings(endpoint = " https://api.example.com/v1 ", model = "large")

    @Test
    fun `an endpoint is HTTPS, or by consent this device`() {
        assertNull(cloudOf(Settings(), "key"))
        assertEquals("https://api.example.com/v1/chat/completions", cloudOf(cloud, null)!!.completionsUrl)
        assertThrows(ConfigException::class.java) { cloudOf(cloud.copy(endpoint = "http://api.example.com/v1"), null) }
        val here = cloud.copy(endpoint = "http://127.0.0.1:8000/v1")
        assertTrue("endpoint: " in assertThrows(ConfigException::class.java) { cloudOf(here, null) }.message!!)
        assertEquals("large", cloudOf(here.copy(allowLoopback = true), "")!!.model)
        assertThrows(ConfigException::class.java) { cloudOf(cloud.copy(model = " "), null) }
    }

    @Test
    fun `settings become a policy`() {
        assertEquals(Policy(Route.LOCAL_ONLY, 0.7, OnUnreachable.QUEUE), policyOf(cloud.copy(route = Route.LOCAL_ONLY, tau = 0.7, onUnreachable = OnUnreachable.QUEUE)))
    }

    @Test
    fun `a device near its limit leaves the work to a cloud that there is`() {
        assertEquals(Route.CLOUD_ONLY, routeOf(cloud, 0.95))
        assertEquals(Route.AUTO, routeOf(cloud, 0.94))
        assertEquals(Route.AUTO, routeOf(cloud, null))
        assertEquals(Route.AUTO, routeOf(Settings(), 1.2))
        assertEquals(Route.LOCAL_ONLY, routeOf(cloud.copy(route = Route.LOCAL_ONLY), 1.2))
    }
}
