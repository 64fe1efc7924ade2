package foggen.app.benchmark

import foggen.BundleException
import foggen.ConfigException
import foggen.app.device.DeviceState
import foggen.app.device.DeviceSurroundings
import foggen.app.support.trainedBundle
import foggen.engine.BufferAllocator
import foggen.json.jsonOf
import foggen.json.parseJson
import foggen.profile.LinuxSurroundings
import foggen.profile.ProfileEvent
import foggen.profile.Profiler
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.nio.file.Files
import java.nio.file.Path

class BenchmarkTest {
    @TempDir
    lateinit var folder: Path

    private fun viewModel(measuring: Measuring) =
        BenchmarkViewModel(measuring, folder, CoroutineScope(Dispatchers.Unconfined), Dispatchers.Unconfined)

    @Test
    fun `an intent's extras are read strictly`() {
        assertEquals(BenchmarkRequest(), BenchmarkRequest.of(emptyMap()))
        assertEquals(
            BenchmarkRequest("a.json", append = true, 5, 0, threads = 4, spinning = false, kleidiai = false, maxNewTokens = 8),
            BenchmarkRequest.of(
                mapOf("output" to "a.json", "append" to true, "questions" to 5, "warm_up" to 0, "threads" to 4, "spinning" to false, "kleidiai" to false, "max_new_tokens" to 8),
            ),
        )
        val wrong = listOf("output" to "../a.json", "output" to 1, "questions" to 0, "questions" to "5", "thread" to 4, "warm_up" to -1, "output" to null)
        for (extra in wrong) assertThrows(ConfigException::class.java, { BenchmarkRequest.of(mapOf(extra)) }, "$extra")
    }

    @Test
    fun `questions are asked in turn, on the device`() {
        val settings = BenchmarkRequest(questions = 5).settings(listOf("a", "b"), BufferAllocator.DIRECT)
        assertEquals(listOf("a", "b", "a", "b", "a"), settings.questions)
        assertEquals(foggen.Route.LOCAL_ONLY, settings.route)
    }

    @Test
    fun `progress is shown and the profile written`() {
        val gate = CompletableDeferred<Unit>()
        val profile = jsonOf("schema_version" to 1)
        var runs = 0
        val viewModel = viewModel {
            flow {
                runs++
                emit(ProfileEvent.Asked(1, 2))
                gate.await()
                emit(ProfileEvent.Finished(profile))
            }
        }
        viewModel.run(BenchmarkRequest())
        viewModel.run(BenchmarkRequest())
        assertEquals(BenchmarkState.Running(ProfileEvent.Asked(1, 2)), viewModel.state.value)
        assertFalse(Files.exists(folder.resolve("profile.json")))
        gate.complete(Unit)
        assertEquals(BenchmarkState.Finished(profile, folder.resolve("profile.json")), viewModel.state.value)
        assertEquals("""{"schema_version":1}""", String(Files.readAllBytes(folder.resolve("profile.json"))))
        assertEquals(1, runs)
    }

    @Test
    fun `a cancelled run ends before another begins`() {
        val gate = CompletableDeferred<Unit>()
        val viewModel = viewModel {
            flow {
                emit(ProfileEvent.Loading)
                gate.await()
                emit(ProfileEvent.Finished(jsonOf("schema_version" to 1)))
            }
        }
        viewModel.run(BenchmarkRequest())
        viewModel.cancel()
        assertEquals(BenchmarkState.Idle, viewModel.state.value)
        assertFalse(Files.exists(folder.resolve("profile.json.error")))
        gate.complete(Unit)
        viewModel.run(BenchmarkRequest())
        assertTrue(viewModel.state.value is BenchmarkState.Finished)
    }

    @Test
    fun `a failure is left for scripts to find`() {
        for (error in listOf(BundleException("no model is installed"), UnsatisfiedLinkError("no library"))) {
            val viewModel = viewModel { flow { throw error } }
            viewModel.run(BenchmarkRequest(output = "p.json"))
            val message = (viewModel.state.value as BenchmarkState.Failed).problem.message
            assertTrue(error.message!! in message)
            val written = parseJson(String(Files.readAllBytes(folder.resolve("p.json.error")))).asJsonObject
            assertEquals(message, written.get("error").asString)
        }
    }

    @Test
    fun `a real profile has bars and rates`() {
        val surroundings = DeviceSurroundings(LinuxSurroundings(), { DeviceState(0.3, 0, 50.0, charging = true) }, "Desktop", "none")
        val bundle = trainedBundle()
        val viewModel = viewModel { Profiler(surroundings).profile(bundle, it.settings(listOf("Pick the animal.\nA) camel\nB) flute"), BufferAllocator.DIRECT)) }
        viewModel.run(BenchmarkRequest(questions = 2, warmUp = 1, threads = 1, spinning = false))
        fun ended() = runBlocking { withTimeout(60_000) { viewModel.state.first { it !is BenchmarkState.Running } } }
        val profile = (ended() as BenchmarkState.Finished).profile
        val bars = barsOf(profile)
        assertEquals(listOf("prefill", "decision", "letter", "answer", "total"), bars.map { it.phase })
        assertTrue(bars.all { it.median in 0.0..it.slow })
        assertEquals(setOf("pp128", "tg64"), ratesOf(profile).keys)
        viewModel.run(BenchmarkRequest(append = true, questions = 2, warmUp = 1, threads = 1, spinning = false))
        assertEquals(2, (ended() as BenchmarkState.Finished).profile.getAsJsonArray("rounds").size())
        viewModel.run(BenchmarkRequest(append = true, questions = 3, warmUp = 1, threads = 1, spinning = false))
        assertTrue("profile: settings: " in (ended() as BenchmarkState.Failed).problem.message)
    }
}
