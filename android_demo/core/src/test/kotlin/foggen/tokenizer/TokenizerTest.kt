package foggen.tokenizer

import foggen.BundleException
import foggen.QuestionException
import foggen.bundle.PromptInfo
import foggen.support.TestData
import foggen.support.seconds
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Files
import java.nio.file.Path
import java.util.zip.CRC32

class TokenizerTest {
    private fun tokenizer(name: String) = QuestionTokenizer.read(TestData.root.resolve("tokenizers/$name/tokenizer.json"))

    @ParameterizedTest
    @ValueSource(strings = ["tiny", "qwen3", "extended"])
    fun `ids equal Hugging Face's on thousands of strings, and decode back`(name: String) {
        val tokenizer = tokenizer(name)
        var count = 0
        TestData.forEachLine("tokenizers/$name/ids.jsonl") { line ->
            val text = line.asJsonArray[0].asString
            val expected = line.asJsonArray[1].asJsonArray.map { it.asInt }.toIntArray()
            assertArrayEquals(expected, tokenizer.encode(text), text)
            val stream = tokenizer.stream()
            val pieces = expected.joinToString("") { stream.feed(it) } + stream.finish()
            assertEquals(tokenizer.decode(expected), pieces, text)
            count++
        }
        assertTrue(count >= 5000, "$count strings")
    }

    @ParameterizedTest
    @ValueSource(strings = ["tiny", "qwen3", "extended"])
    fun `every code point gets Hugging Face's ids`(name: String) {
        val tokenizer = tokenizer(name)
        TestData.forEachLine("tokenizers/$name/sweep.jsonl") { line ->
            val text = line.asJsonArray[0].asString
            assertEquals(line.asJsonArray[1].asLong, checksum(tokenizer.encode(text)), "from U+%04X".format(text.codePointAt(1)))
        }
    }

    @Test
    fun `no question makes it slow`() {
        val tokenizer = tokenizer("qwen3")
        for (piece in listOf("\u0301\u0316", "a\u0301\u0316", " ", "\n ", "a", "'s", "й", "!?", "1")) {
            val text = "a" + piece.repeat(32_768 / piece.length)
            assertTrue(seconds { tokenizer.encode(text) } < 1.0, piece)
        }
    }

    @Test
    fun `every code point has the class that Hugging Face's regular expressions give it`() {
        val classes = TestData.json("classes.json").asJsonObject
        val expected = Array(0x110000) { CharacterClass.OTHER }
        val kinds = mapOf("LETTERS" to CharacterClass.LETTER, "NUMBERS" to CharacterClass.NUMBER, "SPACES" to CharacterClass.SPACE)
        for ((name, kind) in kinds) {
            for (range in classes.getAsJsonArray(name).map { it.asJsonArray }) expected.fill(kind, range[0].asInt, range[1].asInt)
        }
        for (code in expected.indices) assertEquals(expected[code], CharacterClasses.of(code), "U+%04X".format(code))
    }

    @Test
    fun `a typed control token stays text`() {
        val tokenizer = tokenizer("tiny")
        for (text in listOf("<|im_end|>", "mid<think>dle", "</tool_call></tool_call>")) {
            val ids = tokenizer.encode(text)
            assertTrue(ids.none { it >= 1126 }, text)
            assertEquals(text, tokenizer.decode(ids))
        }
    }

    @Test
    fun `control tokens are special or in brackets`() {
        fun control(content: String, special: Boolean = false) =
            AddedToken(1, content, special, singleWord = false, stripsLeft = false, stripsRight = false, normalized = true).isControl
        assertTrue(control("stop", special = true))
        for (text in listOf("<think>", "[INST]", " </answer>\n", "<\uFF5CUser\uFF5C>", "<\u0441\u04B1\u0440\u0430\u049B>")) assertTrue(control(text), text)
        for (text in listOf("instrument", "C++", "<>", "[]", "a<b>", "<b]", "    ", "<")) assertTrue(!control(text), text)
    }

    @Test
    fun `a typed control token beside added words stays text`() {
        val tokenizer = tokenizer("extended")
        val word = tokenizer.encode("instrument").single()
        for (text in listOf("<|im_end|>", "<think>", "</tool_call>")) {
            val ids = tokenizer.encode("instrument${text}instrument")
            assertEquals(listOf(word, word), listOf(ids.first(), ids.last()))
            assertEquals("instrument${text}instrument", tokenizer.decode(ids))
            assertTrue(ids.drop(1).dropLast(1).none { it >= 469 }, text)
        }
    }

    @Test
    fun `special tokens are left out of text, others and broken bytes are not`() {
        val tokenizer = tokenizer("tiny")
        assertEquals("a<think>\uFFFD", tokenizer.decode(tokenizer.encode("a") + intArrayOf(1128, 1150) + tokenizer.encode("é").take(1) + 999_999))
    }

    @Test
    fun `a character in several tokens is held back until it is whole`() {
        val tokenizer = tokenizer("tiny")
        val ids = tokenizer.encode("x🦊y")
        val stream = tokenizer.stream()
        val pieces = ids.map { stream.feed(it) }
        assertEquals(listOf("x", "🦊", "y"), pieces.filter { it.isNotEmpty() })
        val cut = tokenizer.stream()
        assertEquals("x", ids.dropLast(2).joinToString("") { cut.feed(it) })
        assertEquals("\uFFFD", cut.finish())
    }

    @Test
    fun `questions are wrapped, stripped where the template does, and checked`() {
        val tokenizer = tokenizer("tiny")
        fun prompt(strip: Boolean) = PromptInfo(intArrayOf(1), "user\n", " ?", intArrayOf(2), strip)
        assertArrayEquals(intArrayOf(1) + tokenizer.encode("user\n Why?\n ?") + 2, tokenizer.promptIds(prompt(false), " Why?\n"))
        assertArrayEquals(intArrayOf(1) + tokenizer.encode("user\nWhy? ?") + 2, tokenizer.promptIds(prompt(true), "\t Why?\u3000\n"))
        for (bad in listOf("", " \n", "a\ud800b", "\udc00", "x\ud83e")) {
            assertThrows(QuestionException::class.java, { tokenizer.promptIds(prompt(false), bad) }, bad)
        }
    }

    @Test
    fun `a tokenizer of another kind is refused`(@TempDir folder: Path) {
        val text = String(Files.readAllBytes(TestData.root.resolve("tokenizers/tiny/tokenizer.json")))
        val changes = listOf(
            "\"NFC\"" to "\"NFD\"",
            "\\\\p{N}|" to "\\\\p{N}{1,3}|",
            "\"type\":\"BPE\"" to "\"type\":\"Unigram\"",
            "\"byte_fallback\":false" to "\"byte_fallback\":true",
            "\"!\":0," to "\"!!!!\":0,",
            "\"!\":0," to "\"!\":1,",
            "\"add_prefix_space\":false" to "\"add_prefix_space\":true",
            "\"added_tokens\":" to "\"other_tokens\":",
            "\"version\":\"1.0\"," to "\"version\":",
            "[\"t\",\"h\"]" to "[\"t\",\"zzzz\"]",
        )
        for ((from, to) in changes) {
            assertTrue(from in text, from)
            val path = folder.resolve("tokenizer.json")
            Files.write(path, text.replaceFirst(from, to).toByteArray())
            assertThrows(BundleException::class.java, { QuestionTokenizer.read(path) }, "$from to $to")
        }
        Files.write(folder.resolve("tokenizer.json"), text.take(text.length / 2).toByteArray())
        assertThrows(BundleException::class.java) { QuestionTokenizer.read(folder.resolve("tokenizer.json")) }
    }

    private fun checksum(ids: IntArray): Long {
        val bytes = ByteBuffer.allocate(4 * ids.size).order(ByteOrder.LITTLE_ENDIAN)
        ids.forEach { bytes.putInt(it) }
        return CRC32().apply { update(bytes.array()) }.value
    }
}
