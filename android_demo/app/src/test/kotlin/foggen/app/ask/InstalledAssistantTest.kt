package foggen.app.ask

import foggen.AskEvent
import foggen.OnUnreachable
import foggen.OrtEngineFactory
import foggen.Route
import foggen.Source
import foggen.app.NoModelException
import foggen.app.device.DeviceState
import foggen.app.install.BundleLibrary
import foggen.app.install.Installer
import foggen.app.install.dropBytes
import foggen.app.settings.SecretStore
import foggen.app.settings.Settings
import foggen.app.settings.SettingsStore
import foggen.app.support.ChatServer
import foggen.app.support.trainedBundle
import foggen.engine.EngineOptions
import foggen.outbox.FlushReport
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.last
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.nio.file.Files
import java.nio.file.Path

private class MemorySettings(var settings: Settings) : SettingsStore {
    override fun load() = settings

    override fun save(settings: Settings) {
        this.settings = settings
    }
}

private class OneSecret(private val key: String?) : SecretStore {
    override fun load() = key

    override fun save(key: String?) = error("not of this test")
}

class InstalledAssistantTest {
    @TempDir
    lateinit var folder: Path
    private val store = MemorySettings(Settings())
    private var headroom: Double? = null
    private val question = "Pick the animal.\nA) camel\nB) flute"

    private fun assistant(library: BundleLibrary = BundleLibrary(folder.resolve("library"))) = InstalledAssistant(
        AssistantParts(
            library, store, OneSecret("k-1"), { DeviceState(thermalHeadroom = headroom) },
            OrtEngineFactory(EngineOptions(threads = 1, spinning = false)), folder.resolve("journal"),
        ),
    )

    private fun installed(): InstalledAssistant {
        val origin = trainedBundle()
        val library = BundleLibrary(folder.resolve("library"))
        runBlocking { Installer(library).install({ name, offset -> Files.newInputStream(origin.resolve(name)).apply { dropBytes(offset) } }) }
        return assistant(library)
    }

    private fun ask(assistant: Assistant, tau: Double?) = runBlocking {
        assistant.stream(question, tau).filterIsInstance<AskEvent.Finished>().last().result
    }

    @Test
    fun `without a bundle a question fails`() {
        assertThrows(NoModelException::class.java) { runBlocking { assistant().stream(question, null).toList() } }
        assertEquals(emptyList<Double>(), assistant().levels())
    }

    @Test
    fun `settings decide who answers, a hot device leaves it to the cloud`() = ChatServer("C. From afar").use { server ->
        val assistant = installed()
        assertEquals(Source.LOCAL, ask(assistant, 0.0).source)
        assertEquals(listOf(0.0, 0.25, 0.5, 0.75, 1.0), assistant.levels())
        store.settings = Settings(endpoint = server.url, model = "big", allowLoopback = true)
        runBlocking { assistant.reset() }
        assertEquals(Source.LOCAL, ask(assistant, 0.0).source)
        headroom = 0.97
        val hot = ask(assistant, 0.0)
        assertEquals(Source.CLOUD to "C. From afar", hot.source to hot.answer)
        assertEquals("Bearer k-1", server.authorization)
        runBlocking { assistant.reset() }
    }

    @Test
    fun `without a network questions wait in the queue`() {
        val assistant = installed()
        val url = ChatServer("").use { it.url }
        store.settings = Settings(url, "big", Route.CLOUD_ONLY, OnUnreachable.QUEUE, allowLoopback = true)
        assertEquals(Source.QUEUED, ask(assistant, null).source)
        assertEquals(1, runBlocking { assistant.flush {} }!!.remaining)
        ChatServer("A. Later").use { server ->
            store.settings = store.settings.copy(endpoint = server.url)
            runBlocking {
                assistant.reset()
                val reports = ArrayList<FlushReport>()
                assertEquals(FlushReport(answered = 1), assistant.flush { reports += it })
                assertEquals(listOf(FlushReport(answered = 1)), reports)
                assertEquals("A. Later", assistant.queued().single().result.answer)
                store.settings = Settings()
                assistant.reset()
                assertNull(assistant.flush {})
            }
        }
    }
}
