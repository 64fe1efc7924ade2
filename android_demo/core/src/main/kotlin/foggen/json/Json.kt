package foggen.json

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonNull
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonParser
import com.google.gson.JsonPrimitive
import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.Reader
import java.io.StringReader
import java.math.BigDecimal
import java.math.MathContext
import java.math.RoundingMode

/** A JSON document is not valid JSON, or does not have the form it must have. */
class JsonException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** Reads one JSON value and nothing after it, by the standard's grammar. */
fun parseJson(text: String): JsonElement = parseJson(StringReader(text))

/** Reads one JSON value and nothing after it, by the standard's grammar. */
fun parseJson(reader: Reader): JsonElement {
    val json = JsonReader(reader)
    json.strictness = Strictness.STRICT
    try {
        json.peek() // gson takes an empty text for null
        val value = JsonParser.parseReader(json)
        if (json.peek() != JsonToken.END_DOCUMENT) {
            throw JsonException("there is text after the JSON value")
        }
        return value
    } catch (error: JsonParseException) {
        throw JsonException("not valid JSON: ${error.message}", error)
    } catch (error: IOException) {
        throw JsonException("not valid JSON: ${error.message}", error)
    } catch (error: NumberFormatException) {
        throw JsonException("not valid JSON: ${error.message}", error)
    } catch (error: StackOverflowError) {
        throw JsonException("not valid JSON: nested too deeply", error)
    }
}

/** Makes a JSON object of pairs; numbers, strings, booleans, lists and null are converted. */
fun jsonOf(vararg pairs: Pair<String, Any?>): JsonObject {
    val json = JsonObject()
    for ((name, value) in pairs) json.add(name, jsonValue(value))
    return json
}

/** Converts a plain value to JSON. */
fun jsonValue(value: Any?): JsonElement =
    when (value) {
        null -> JsonNull.INSTANCE
        is JsonElement -> value
        is Number -> JsonPrimitive(value)
        is String -> JsonPrimitive(value)
        is Boolean -> JsonPrimitive(value)
        is Iterable<*> -> JsonArray().also { array -> value.forEach { array.add(jsonValue(it)) } }
        is Map<*, *> -> JsonObject().also { json ->
            value.forEach { (name, item) -> json.add(name.toString(), jsonValue(item)) }
        }
        else -> throw IllegalArgumentException("no JSON value: ${value.javaClass.name}")
    }

/**
 * Writes JSON as Python's `json.dumps` does with `ensure_ascii=False` and compact separators.
 *
 * Hashes of canonical JSON must be the same on both sides, down to how numbers are spelled.
 *
 * @param sorted whether an object's keys are written in ascending order
 */
fun compactJson(value: JsonElement, sorted: Boolean = false): String =
    StringBuilder().also { write(value, sorted, it) }.toString()

private fun write(value: JsonElement, sorted: Boolean, out: StringBuilder) {
    when {
        value.isJsonNull -> out.append("null")
        value.isJsonObject -> {
            val entries = value.asJsonObject.entrySet().let { all -> if (sorted) all.sortedBy { it.key } else all }
            entries.forEachIndexed { index, (name, item) ->
                out.append(if (index == 0) '{' else ',')
                writeString(name, out)
                out.append(':')
                write(item, sorted, out)
            }
            out.append(if (entries.isEmpty()) "{}" else "}")
        }
        value.isJsonArray -> {
            value.asJsonArray.forEachIndexed { index, item ->
                out.append(if (index == 0) '[' else ',')
                write(item, sorted, out)
            }
            out.append(if (value.asJsonArray.isEmpty) "[]" else "]")
        }
        value.asJsonPrimitive.isString -> writeString(value.asString, out)
        value.asJsonPrimitive.isBoolean -> out.append(value.asString)
        else -> out.append(spelled(value.asJsonPrimitive))
    }
}

private fun writeString(text: String, out: StringBuilder) {
    out.append('"')
    for (char in text) {
        when (char) {
            '"' -> out.append("\\\"")
            '\\' -> out.append("\\\\")
            '\n' -> out.append("\\n")
            '\r' -> out.append("\\r")
            '\t' -> out.append("\\t")
            '\b' -> out.append("\\b")
            '\u000c' -> out.append("\\f")
            else -> if (char < ' ') out.append("\\u%04x".format(char.code)) else out.append(char)
        }
    }
    out.append('"')
}

private fun spelled(number: JsonPrimitive): String {
    val text = number.asString
    val isInteger = text.none { it == '.' || it == 'e' || it == 'E' }
    return if (isInteger) text else spelled(text.toDouble())
}

/** Spells a finite double as Python's `repr`: the fewest digits that read back the same. */
internal fun spelled(number: Double): String {
    if (!number.isFinite()) throw JsonException("JSON has no $number")
    if (number == 0.0) return if (1 / number < 0) "-0.0" else "0.0"
    val exact = BigDecimal(number)
    val short = (1..17).map { exact.round(MathContext(it, RoundingMode.HALF_EVEN)) }.first { it.toDouble() == number }
    val digits = short.unscaledValue().abs().toString().trimEnd('0')
    val exponent = short.precision() - short.scale() - 1
    val sign = if (number < 0) "-" else ""
    return sign + when {
        exponent < -4 || exponent >= 16 -> scientific(digits, exponent)
        exponent < 0 -> "0." + "0".repeat(-exponent - 1) + digits
        digits.length <= exponent + 1 -> digits.padEnd(exponent + 1, '0') + ".0"
        else -> digits.substring(0, exponent + 1) + "." + digits.substring(exponent + 1)
    }
}

private fun scientific(digits: String, exponent: Int): String {
    val mantissa = if (digits.length == 1) digits else "${digits[0]}.${digits.substring(1)}"
    val power = Math.abs(exponent).toString().padStart(2, '0')
    return mantissa + "e" + (if (exponent < 0) "-" else "+") + power
}
