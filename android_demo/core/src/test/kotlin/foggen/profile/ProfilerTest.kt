package foggen.profile

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import foggen.Route
import foggen.engine.EngineOptions
import foggen.json.JsonException
import foggen.json.compactJson
import foggen.json.parseJson
import foggen.support.TestData
import kotlinx.coroutines.flow.last
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.nio.file.Files
import java.nio.file.Path
import kotlin.math.abs

class ProfilerTest {
    @TempDir
    lateinit var folder: Path

    private fun profile(): JsonObject = runBlocking {
        val settings = ProfileSettings(
            questions = listOf("Pick the animal.\nA) camel\nB) flute", "Where is parcel 7?\nA) barn\nB) cellar"),
            warmUp = 1,
            engine = EngineOptions(threads = 1, spinning = false),
            promptLength = 8,
            generatedLength = 4,
            repetitions = 2,
        )
        (Profiler().profile(TestData.bundle("int4"), settings).last() as ProfileEvent.Finished).profile
    }

    /** Returns what Python code prints that is given a profile as `p`. */
    private fun python(profile: JsonObject, code: String): String {
        val path = Files.write(folder.resolve("profile.json"), compactJson(profile).toByteArray())
        val script = "import sys, pathlib; from foggen_runtime.profiling.schema import read_profile; " +
            "p = read_profile(pathlib.Path(sys.argv[1])); $code"
        val process = ProcessBuilder(System.getProperty("foggen.python"), "-c", script, path.toString())
            .directory(File("../..").canonicalFile).redirectError(ProcessBuilder.Redirect.INHERIT).start()
        return process.inputStream.bufferedReader().readText().trim()
    }

    @Test
    fun `Python reads the profile`() {
        assertEquals("2 pp8 tg4", python(profile(), "print(len(p.rounds[0].questions), *p.summary.tokens_per_second)"))
    }

    @Test
    fun `rounds of several processes become one profile, with the figures that Python gives`() {
        val parts = List(3) { profile() }
        val whole = parts.reduce(::mergedProfiles)
        assertEquals(parts.map { it.getAsJsonArray("rounds")[0] }, whole.getAsJsonArray("rounds").toList())
        val code = "import json; from dataclasses import asdict; from foggen_runtime.profiling.summary import summarize; " +
            "print(p.settings.rounds); print(json.dumps(asdict(summarize(p.rounds))))"
        val (rounds, summary) = python(whole, code).split("\n")
        assertEquals("3", rounds)
        assertClose(parseJson(summary), whole.get("summary"), "summary")
    }

    private fun assertClose(expected: JsonElement, found: JsonElement, where: String) {
        when {
            expected.isJsonObject -> {
                assertEquals(expected.asJsonObject.keySet(), found.asJsonObject.keySet(), where)
                for ((name, item) in expected.asJsonObject.entrySet()) assertClose(item, found.asJsonObject.get(name), "$where.$name")
            }
            expected.isJsonNull -> assertTrue(found.isJsonNull, where)
            else -> assertEquals(expected.asDouble, found.asDouble, 1e-9 * abs(expected.asDouble), where)
        }
    }

    @Test
    fun `rounds of another bundle, other settings or no rounds are not merged`() {
        val profile = profile()
        fun refusal(change: (JsonObject) -> Unit): String =
            assertThrows(JsonException::class.java) { mergedProfiles(profile.deepCopy().apply(change), profile) }.message!!
        assertTrue("profile: bundle: " in refusal { it.getAsJsonObject("bundle").addProperty("sha256", "00") })
        assertTrue("profile: settings: " in refusal { it.getAsJsonObject("settings").addProperty("spinning", true) })
        assertTrue("profile: device: " in refusal { it.remove("device") })
        assertTrue("profile: rounds: are missing" in refusal { it.remove("rounds") })
        assertTrue("round: memory: loaded: " in refusal { it.getAsJsonArray("rounds")[0].asJsonObject.getAsJsonObject("memory").addProperty("loaded", 1) })
        assertTrue("round: streams.pp8: must be a list" in refusal { it.getAsJsonArray("rounds")[0].asJsonObject.getAsJsonObject("streams").addProperty("pp8", 1) })
    }

    @Test
    fun `phases add up to the whole`() {
        val phases = profile().getAsJsonArray("rounds")[0].asJsonObject.getAsJsonObject("phases_ms")
        val parts = phases.entrySet().filter { it.key != "wall" && it.key != "first_decision" }.sumOf { it.value.asDouble }
        assertEquals(phases.get("wall").asDouble, parts, 0.01)
        assertTrue(phases.get("unaccounted").asDouble in -0.01..phases.get("wall").asDouble)
    }

    @Test
    fun `distributions are numpy's`() {
        val found = distribution(listOf(4.0, null, 1.0, 3.0, 2.0))!!
        assertEquals(listOf(4.0, 2.5, 3.7, 3.97, 2.5, 1.290994), found.entrySet().map { Math.round(it.value.asDouble * 1e6) / 1e6 })
        assertNull(distribution(listOf(null)))
        assertTrue(distribution(listOf(1.0))!!.get("stddev").isJsonNull)
    }

    @Test
    fun `what the system hides is null`(@TempDir root: File) {
        val hidden = LinuxSurroundings(root)
        assertNull(hidden.peakMemory())
        assertNull(hidden.memory().rss)
        assertTrue(hidden.device().get("memory_bytes").isJsonNull)
        File(root, "proc/self").mkdirs()
        File(root, "proc/self/status").writeText("Name: x\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n")
        assertEquals(2_097_152L, LinuxSurroundings(root).peakMemory())
        assertEquals(1_048_576L, LinuxSurroundings(root).memory().rss)
        assertEquals(Route.AUTO, ProfileSettings(listOf("q")).route)
    }
}
