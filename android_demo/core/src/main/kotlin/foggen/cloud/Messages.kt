package foggen.cloud

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import foggen.tokenizer.isText

private val TEXT_PARTS = setOf("text", "output_text")

/**
 * One message of a chat completion, or a delta of one, in the forms that servers send.
 *
 * @property text of the answer, and perhaps thoughts between tags
 * @property refusal in place of an answer
 * @property reasoned whether it holds thoughts that came apart from the text
 */
internal class Message private constructor(val text: String, val refusal: String, val reasoned: Boolean) {
    /** Whether it shows the model at work. */
    val begun: Boolean get() = reasoned || text.isNotEmpty() || refusal.isNotEmpty()

    companion object {
        /** Reads it; its content may be a text or a list of parts. */
        fun of(value: JsonElement?): Message {
            val fields = value as? JsonObject ?: JsonObject()
            val content = fields.get("content")
            val parts = (content as? JsonArray)?.map { it as? JsonObject ?: throw noText() }
            val text = parts?.joinToString("") { textOf(it, "text", TEXT_PARTS) } ?: plain(content)
            val refusal = stringOf(fields.get("refusal")).orEmpty() +
                parts.orEmpty().joinToString("") { textOf(it, "refusal", setOf("refusal")) }
            if (!isText(text) || !isText(refusal)) throw noText()
            // The thoughts' field has many names, and some come encrypted.
            val thinking = fields.entrySet().any { (name, field) -> ("reason" in name || "think" in name) && holdsAny(field) }
            return Message(text, refusal, thinking || parts.orEmpty().any { holdsAny(it.get("thinking")) })
        }
    }
}

private fun textOf(part: JsonObject, field: String, kinds: Set<String>): String =
    if (stringOf(part.get("type")) in kinds) plain(part.get(field)) else ""

private fun plain(text: JsonElement?): String =
    if (text == null || text.isJsonNull) "" else stringOf(text) ?: throw noText()

/** Whether a JSON value says anything: neither null, false, zero nor empty. */
internal fun holdsAny(value: JsonElement?): Boolean = when (value) {
    is JsonObject -> value.size() > 0
    is JsonArray -> !value.isEmpty
    is JsonPrimitive -> value.asString !in setOf("", "false", "0")
    else -> false
}

private fun noText() = invalid("the answer's content is no valid text")
