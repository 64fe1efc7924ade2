package foggen

import com.google.gson.JsonObject
import foggen.support.TestData
import foggen.support.seconds
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The table that the Python runtime is held to as well. */
class ChoiceTest {
    @Test
    fun `the letter of an answer is found`() {
        for (case in cases("answers")) {
            val answer = case.get("answer").asString
            val letter = case.get("choice").takeUnless { it.isJsonNull }?.asString
            assertEquals(letter, parseChoice(answer, optionsOf(case)), answer)
        }
    }

    @Test
    fun `the options of a question are found`() {
        for (case in cases("questions")) {
            val question = case.get("question").asString
            assertEquals(optionsOf(case), questionOptions(question), question)
        }
    }

    @Test
    fun `the middle of a very long answer is not read`() {
        val filler = "Because. ".repeat(50_000)
        assertEquals("B", parseChoice("${filler}The answer is B.", setOf("A", "B")))
        assertEquals(null, parseChoice("${filler}The answer is B. $filler", setOf("A", "B")))
    }

    @Test
    fun `no text makes it slow`() {
        val texts = listOf("The answer is\n", "B ", "A, ", "a'", "\\boxed{", "不A", "A is the the ", "A) ")
        for (text in texts) {
            val long = text.repeat(20_000)
            parseChoice(long, setOf("A", "B")) // warm
            assertTrue(seconds { parseChoice(long, setOf("A", "B")) } < 0.5, text)
            assertTrue(seconds { parseChoice("The answer is" + text.last().toString().repeat(40_000)) } < 0.5, text)
            assertTrue(seconds { questionOptions(long) } < 0.5, text)
        }
    }

    private fun cases(name: String): List<JsonObject> =
        TestData.json("golden/choices.json").asJsonObject.getAsJsonArray(name).map { it.asJsonObject }

    private fun optionsOf(case: JsonObject): Set<String> = case.get("options").asString.map(Char::toString).toSet()
}
