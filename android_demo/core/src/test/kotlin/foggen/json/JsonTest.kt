package foggen.json

import foggen.Result
import foggen.support.TestData
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class JsonTest {
    @Test
    fun `doubles are spelled as Python spells them`() {
        TestData.forEachLine("numbers.jsonl") { line ->
            val repr = line.asJsonArray[0].asString
            assertEquals(repr, spelled(repr.toDouble()))
        }
    }

    @Test
    fun `compact JSON is Python's`() {
        val value = parseJson("""{"b": [1, 2.50, -0.0, 1e2, true, null, {}], "a": "é\u0001\"\\\n\u2028/<"}""")
        assertEquals("""{"a":"é\u0001\"\\\n""" + "\u2028" + """/<","b":[1,2.5,-0.0,100.0,true,null,{}]}""", compactJson(value, sorted = true))
    }

    @Test
    fun `only the standard's JSON is read`() {
        for (bad in listOf("{a: 1}", "[1,]", "{} {}", "'a'", "[NaN]", "", "[1", "[".repeat(100_000))) {
            assertThrows(JsonException::class.java, { parseJson(bad) }, bad.take(20))
        }
    }

    @Test
    fun `a result of the Python runtime has the same fields in the same order`() {
        val python = TestData.json("bundles/result.json").asJsonObject
        val again = Result.of(python).toJson()
        assertEquals(compactJson(python), compactJson(again))
        assertEquals(python.keySet().toList(), again.keySet().toList())
    }
}
