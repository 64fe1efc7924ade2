package foggen

import com.google.gson.JsonObject
import foggen.support.RecordingFactory
import foggen.support.TestData
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource

/** Every golden trace of the Python runtime, replayed. */
class GoldenTest {
    @ParameterizedTest
    @CsvSource(
        "fp32, fp32, 1e-4, 252",
        "fp32-positions, fp32, 1e-4, 252",
        "int8, int8, 0.01, 84",
        "int4, int4, 0.01, 84",
        "int4-expected, int4-expected, 0.01, 84",
    )
    fun `traces are repeated token for token`(bundle: String, traces: String, tolerance: Double, expected: Int) = runBlocking {
        val questions = TestData.json("golden/questions.json").asJsonObject.getAsJsonArray("questions").map { it.asJsonObject }
        val golden = TestData.json("golden/$traces.json").asJsonObject
        val factory = RecordingFactory()
        var count = 0
        Foggen.open(TestData.bundle(bundle), options = factory.options).use { foggen ->
            for (asked in questions) {
                assertArrayEquals(ints(asked, "prompt_ids").toIntArray(), foggen.model.promptIds(asked.get("question").asString))
            }
            for (trace in golden.getAsJsonArray("traces").map { it.asJsonObject }) {
                val question = questions[trace.get("question").asInt].get("question").asString
                replay(foggen, factory, question, trace, tolerance)
                count++
            }
        }
        assertEquals(expected, count)
    }

    private suspend fun replay(foggen: Foggen, factory: RecordingFactory, question: String, trace: JsonObject, tolerance: Double) {
        val where = "question ${trace.get("question")}, ${trace.get("mode")}, ${trace.get("route")}"
        val mode = DecodingMode.valueOf(trace.get("mode").asString.uppercase())
        val options = AskOptions(route = Route.valueOf(trace.get("route").asString.uppercase()), mode = mode, maxNewTokens = 16)
        val engine = factory.engine!!
        engine.passes.clear()
        val result = foggen.ask(question, options).toJson()
        assertEquals(trace.getAsJsonArray("passes").map { pass -> pass.asJsonArray.map { it.asInt } }, engine.passes, where)
        assertEquals(ints(trace, "tokens"), tokens(foggen, question, options), where)
        for ((name, stored) in trace.getAsJsonObject("result").entrySet()) {
            val found = result.get(name)
            when {
                stored.isJsonNull || name !in NUMBERS -> assertEquals(stored, parsed(found), "$where, $name")
                stored.isJsonArray -> stored.asJsonArray.forEachIndexed { index, share ->
                    assertEquals(share.asDouble, found.asJsonArray[index].asDouble, tolerance, "$where, $name[$index]")
                }
                else -> assertEquals(stored.asDouble, found.asDouble, tolerance, "$where, $name")
            }
        }
        assertTrue(trace.getAsJsonObject("result").size() > 10)
    }

    /** Returns every token written, whatever the confidence. */
    private fun tokens(foggen: Foggen, question: String, options: AskOptions): List<Int> {
        val prompt = foggen.model.promptIds(question)
        val decoder = foggen.model.decoder(options)
        val decision = decoder.decide(prompt.copyOfRange(foggen.model.prefixLength, prompt.size))
        if (decision.level == null) return decision.tokens
        return decision.tokens + decoder.answer(options.maxNewTokens)
    }

    private fun ints(json: JsonObject, name: String): List<Int> = json.getAsJsonArray(name).map { it.asInt }

    private fun parsed(value: com.google.gson.JsonElement) = foggen.json.parseJson(foggen.json.compactJson(value))

    private companion object {
        val NUMBERS = setOf("level_probabilities", "expected_confidence", "template_probability")
    }
}
