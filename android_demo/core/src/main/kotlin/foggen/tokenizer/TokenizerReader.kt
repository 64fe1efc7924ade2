package foggen.tokenizer

import com.google.gson.JsonElement
import com.google.gson.JsonParser
import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import com.google.gson.stream.MalformedJsonException
import foggen.BundleException
import foggen.json.Fields
import foggen.json.JsonException
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path

private const val EXPECTED_TOKENS = 1 shl 12

/** A `tokenizer.json` taken apart. */
internal class TokenizerParts(val bpe: ByteLevelBpe, val encoder: WordEncoder, val added: Map<Int, AddedToken>)

/**
 * Reads a `tokenizer.json` as a stream: eleven megabytes never stand in memory at once.
 *
 * @throws BundleException the file is missing or asks for what this library does not do
 */
internal fun readTokenizer(path: Path): TokenizerParts =
    try {
        Files.newBufferedReader(path).use { TokenizerReader(JsonReader(it), path.toString()).read() }
    } catch (error: IOException) {
        throw BundleException("$path: cannot be read as a tokenizer: ${error.message}", error)
    } catch (error: JsonException) {
        throw BundleException("${error.message}", error)
    } catch (error: IllegalStateException) { // what gson raises at a value of another type
        throw BundleException("$path: cannot be read as a tokenizer: ${error.message}", error)
    } catch (error: NumberFormatException) {
        throw BundleException("$path: cannot be read as a tokenizer: ${error.message}", error)
    }

private class TokenizerReader(private val json: JsonReader, private val where: String) {
    private val vocabulary = Vocabulary(EXPECTED_TOKENS)
    private val merges = Merges(EXPECTED_TOKENS)
    private val added = HashMap<Int, AddedToken>()
    private val seen = HashSet<String>()

    fun read(): TokenizerParts {
        json.strictness = Strictness.STRICT
        forEachName { name ->
            seen += name
            when (name) {
                "added_tokens" -> forEachItem(::readAddedToken)
                "normalizer" -> require("normalizer", value(), """{"type":"NFC"}""")
                "pre_tokenizer" -> checkPreTokenizer(value())
                "decoder" -> requireType("decoder", value(), "ByteLevel")
                "model" -> readModel()
                else -> json.skipValue()
            }
        }
        if (json.peek() != JsonToken.END_DOCUMENT) throw MalformedJsonException("text after the document")
        for (name in listOf("added_tokens", "normalizer", "pre_tokenizer", "decoder", "model")) {
            if (name !in seen) throw JsonException("$where: field '$name' is missing")
        }
        val bpe = ByteLevelBpe(vocabulary, merges)
        return TokenizerParts(bpe, WordEncoder(bpe, added.values.filter { !it.isControl }), added)
    }

    private fun readAddedToken() {
        val fields = Fields(value(), "$where: added_tokens")
        val id = fields.int("id")
        added[id] = AddedToken(
            id,
            fields.string("content"),
            fields.boolean("special"),
            singleWord = fields.boolean("single_word"),
            stripsLeft = fields.boolean("lstrip"),
            stripsRight = fields.boolean("rstrip"),
            normalized = fields.boolean("normalized"),
        )
    }

    private fun readModel() {
        forEachName { name ->
            when (name) {
                "type" -> require("model.type", value(), "\"BPE\"")
                "vocab" -> readVocabulary()
                "merges" -> readMerges()
                "dropout", "unk_token" -> require("model.$name", value(), "null")
                "continuing_subword_prefix", "end_of_word_suffix" -> require("model.$name", value(), "null", "\"\"")
                "fuse_unk", "byte_fallback", "ignore_merges" -> require("model.$name", value(), "false")
                else -> throw JsonException("$where: model.$name: this library does not know it")
            }
        }
        for (byte in 0..255) {
            if (vocabulary.idOf(byteArrayOf(byte.toByte())) < 0) {
                throw JsonException("$where: model.vocab: must hold every byte, lacks $byte")
            }
        }
    }

    private fun readVocabulary() {
        forEachName { token ->
            val id = json.nextInt()
            if (id < 0 || !vocabulary.add(id, bytes(token))) {
                throw JsonException("$where: model.vocab: must hold each token and id once, repeats '$token'")
            }
        }
    }

    /** Reads `["a", "b"]` or, as older files have it, `"a b"`. */
    private fun readMerges() {
        if (vocabulary.size == 0) throw JsonException("$where: model.merges: must come after model.vocab")
        var rank = 0
        forEachItem {
            val pair = if (json.peek() == JsonToken.STRING) {
                json.nextString().split(' ')
            } else {
                ArrayList<String>(2).also { forEachItem { it += json.nextString() } }
            }
            if (pair.size != 2) throw JsonException("$where: model.merges[$rank]: must be two tokens, is $pair")
            addMerge(bytes(pair[0]), bytes(pair[1]), rank++)
        }
    }

    private fun addMerge(left: ByteArray, right: ByteArray, rank: Int) {
        val ids = listOf(left, right, left + right).map(vocabulary::idOf)
        if (-1 in ids) throw JsonException("$where: model.merges[$rank]: must be of tokens in the vocabulary")
        merges.add(ids[0], ids[1], rank, ids[2])
    }

    private fun checkPreTokenizer(value: JsonElement) {
        val steps = if (typeOf(value) == "Sequence") value.asJsonObject.get("pretokenizers")?.asJsonArray else null
        val split = steps?.firstOrNull()?.asJsonObject
        val pattern = split?.get("pattern")?.asJsonObject?.get("Regex")?.asString
        val known = steps?.size() == 2 && typeOf(steps[0]) == "Split" && pattern == QwenSplit.PATTERN &&
            split.get("behavior").asString == "Isolated" && !split.get("invert").asBoolean &&
            typeOf(steps[1]) == "ByteLevel" && !steps[1].asJsonObject.get("add_prefix_space").asBoolean &&
            !steps[1].asJsonObject.get("use_regex").asBoolean
        if (!known) throw JsonException("$where: pre_tokenizer: must be Qwen's split and bytes, is ${short(value)}")
    }

    private fun requireType(name: String, value: JsonElement, type: String) {
        if (typeOf(value) != type) throw JsonException("$where: $name: must be of type $type, is ${short(value)}")
    }

    private fun require(name: String, value: JsonElement, vararg allowed: String) {
        if (value.toString() !in allowed) {
            throw JsonException("$where: $name: must be ${allowed.joinToString(" or ")}, is ${short(value)}")
        }
    }

    private fun typeOf(value: JsonElement): String? =
        if (value.isJsonObject) value.asJsonObject.get("type")?.asString else null

    private fun short(value: JsonElement): String = value.toString().take(200)

    private fun value(): JsonElement = JsonParser.parseReader(json)

    private inline fun forEachName(action: (String) -> Unit) {
        json.beginObject()
        while (json.hasNext()) action(json.nextName())
        json.endObject()
    }

    private inline fun forEachItem(action: () -> Unit) {
        json.beginArray()
        while (json.hasNext()) action()
        json.endArray()
    }

    /** Returns the bytes that a token's letters stand for. */
    private fun bytes(token: String): ByteArray {
        val bytes = ByteArray(token.length)
        for (index in token.indices) {
            val byte = ByteLetters.byteOf(token[index])
            if (byte < 0) throw JsonException("$where: model.vocab: '$token' must be of letters that stand for bytes")
            bytes[index] = byte.toByte()
        }
        return bytes
    }
}

/** The printable letters that byte-level BPE writes bytes as (GPT-2's `bytes_to_unicode`). */
internal object ByteLetters {
    private val bytes = IntArray(0x200) { -1 }

    init {
        var other = 0x100
        for (byte in 0..255) {
            val printable = byte in 0x21..0x7e || byte in 0xa1..0xac || byte in 0xae..0xff
            bytes[if (printable) byte else other++] = byte
        }
    }

    /** Returns the byte that a letter stands for, or -1. */
    fun byteOf(letter: Char): Int = if (letter.code < bytes.size) bytes[letter.code] else -1

    /** Appends a token's text: its bytes if all letters stand for one, else the text as it is. */
    fun decode(content: String, out: ByteArrayOutputStream) {
        if (content.all { byteOf(it) >= 0 }) content.forEach { out.write(byteOf(it)) } else out.write(content.toByteArray())
    }
}
