package foggen.json

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonNull
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import java.math.BigDecimal

/**
 * Reads the fields of a JSON object strictly; messages name the field, the rule and the value.
 *
 * @property where how messages call the object
 * @property normalized the fields read so far, defaults filled in, numbers in their field's type
 */
class Fields(value: JsonElement, private val where: String) {
    private val source: JsonObject =
        if (value.isJsonObject) value.asJsonObject else fail(where, "an object", value)
    val normalized = JsonObject()

    fun string(name: String): String = read(name, ::stringOf) { JsonPrimitive(it) }

    fun optionalString(name: String): String? = optional(name, ::stringOf) { JsonPrimitive(it) }

    fun int(name: String): Int = read(name, ::intOf) { JsonPrimitive(it) }

    fun optionalInt(name: String): Int? = optional(name, ::intOf) { JsonPrimitive(it) }

    fun long(name: String): Long = read(name, ::longOf) { JsonPrimitive(it) }

    fun optionalLong(name: String): Long? = optional(name, ::longOf) { JsonPrimitive(it) }

    fun double(name: String): Double = read(name, ::doubleOf) { JsonPrimitive(it) }

    fun optionalDouble(name: String): Double? = optional(name, ::doubleOf) { JsonPrimitive(it) }

    /** Reads true or false; [default] where the field is missing. */
    fun boolean(name: String, default: Boolean? = null): Boolean {
        if (default != null && !source.has(name)) {
            normalized.addProperty(name, default)
            return default
        }
        return read(name, ::booleanOf) { JsonPrimitive(it) }
    }

    fun optionalBoolean(name: String): Boolean? = optional(name, ::booleanOf) { JsonPrimitive(it) }

    fun ints(name: String): IntArray = intsOf(list(name), "$where: $name")

    fun strings(name: String): List<String> =
        list(name).mapIndexed { index, item -> stringOf(item, "$where: $name[$index]") }

    /** Reads a list of numbers or null. */
    fun optionalDoubles(name: String): List<Double>? {
        if (!source.has(name) || source.get(name).isJsonNull) {
            normalized.add(name, JsonNull.INSTANCE)
            return null
        }
        return list(name).mapIndexed { index, item -> doubleOf(item, "$where: $name[$index]") }
    }

    /** Reads a list of lists of integers. */
    fun intLists(name: String): List<IntArray> =
        list(name).mapIndexed { index, item ->
            if (!item.isJsonArray) fail("$where: $name[$index]", "a list", item)
            intsOf(item.asJsonArray, "$where: $name[$index]")
        }

    /** Reads an object by [form]. */
    fun <T> section(name: String, form: (Fields) -> T): T = sectionOf(required(name), name, form)

    /** Reads an object or null. */
    fun <T> optionalSection(name: String, form: (Fields) -> T): T? {
        val value = source.get(name)
        if (value == null || value.isJsonNull) {
            normalized.add(name, JsonNull.INSTANCE)
            return null
        }
        return sectionOf(value, name, form)
    }

    /** Reads an object that stands for [default] where it is missing. */
    fun <T> section(name: String, default: JsonObject, form: (Fields) -> T): T =
        sectionOf(source.get(name) ?: default, name, form)

    /** Reads an object of objects. */
    fun <T> sections(name: String, form: (Fields) -> T): Map<String, T> {
        val value = required(name)
        if (!value.isJsonObject) fail("$where: $name", "an object", value)
        val all = JsonObject()
        val read = value.asJsonObject.entrySet().associate { (key, item) ->
            val fields = Fields(item, "$where: $name.$key")
            key to form(fields).also { all.add(key, fields.finish()) }
        }
        normalized.add(name, all)
        return read
    }

    /** Reads a list of objects. */
    fun <T> sectionList(name: String, form: (Fields) -> T): List<T> =
        list(name).mapIndexed { index, item ->
            val fields = Fields(item, "$where: $name[$index]")
            form(fields).also { fields.finish() }
        }

    /** Reads an object of numbers or null. */
    fun numbers(name: String): Map<String, Double?> =
        anything(name).entrySet().associate { (key, item) ->
            key to if (item.isJsonNull) null else doubleOf(item, "$where: $name.$key")
        }

    /** Reads an object of lists of numbers. */
    fun numberLists(name: String): Map<String, List<Double>> =
        anything(name).entrySet().associate { (key, item) ->
            if (!item.isJsonArray) fail("$where: $name.$key", "a list", item)
            key to item.asJsonArray.map { doubleOf(it, "$where: $name.$key") }
        }

    /** Takes an object whatever it holds. */
    fun anything(name: String): JsonObject {
        val value = required(name)
        if (!value.isJsonObject) fail("$where: $name", "an object", value)
        normalized.add(name, value)
        return value.asJsonObject
    }

    /** Refuses fields that nobody asked for, and returns the normalized object. */
    fun finish(): JsonObject {
        val unknown = source.keySet().filter { !normalized.has(it) }.minOrNull()
        if (unknown != null) throw JsonException("$where: unknown field '$unknown'")
        return normalized
    }

    private fun required(name: String): JsonElement =
        source.get(name) ?: throw JsonException("$where: field '$name' is missing")

    private fun <T> read(name: String, convert: (JsonElement, String) -> T, back: (T) -> JsonElement): T {
        val value = convert(required(name), "$where: $name")
        normalized.add(name, back(value))
        return value
    }

    private fun <T> optional(name: String, convert: (JsonElement, String) -> T, back: (T) -> JsonElement): T? {
        if (source.has(name) && !source.get(name).isJsonNull) return read(name, convert, back)
        normalized.add(name, JsonNull.INSTANCE)
        return null
    }

    private fun list(name: String): JsonArray {
        val value = required(name)
        if (!value.isJsonArray) fail("$where: $name", "a list", value)
        normalized.add(name, value)
        return value.asJsonArray
    }

    private fun <T> sectionOf(value: JsonElement, name: String, form: (Fields) -> T): T {
        val fields = Fields(value, "$where: $name")
        return form(fields).also { normalized.add(name, fields.finish()) }
    }
}

private fun stringOf(value: JsonElement, where: String): String =
    if (value is JsonPrimitive && value.isString) value.asString else fail(where, "a string", value)

private fun booleanOf(value: JsonElement, where: String): Boolean =
    if (value is JsonPrimitive && value.isBoolean) value.asBoolean else fail(where, "true or false", value)

private fun doubleOf(value: JsonElement, where: String): Double =
    if (value is JsonPrimitive && value.isNumber && value.asDouble.isFinite()) value.asDouble else fail(where, "a number", value)

private fun longOf(value: JsonElement, where: String): Long {
    if (value !is JsonPrimitive || !value.isNumber || value.asString.any { it in ".eE" }) {
        fail(where, "an integer", value)
    }
    return try {
        BigDecimal(value.asString).longValueExact()
    } catch (_: ArithmeticException) {
        fail(where, "an integer of 64 bits", value)
    }
}

private fun intOf(value: JsonElement, where: String): Int {
    val number = longOf(value, where)
    if (number !in Int.MIN_VALUE..Int.MAX_VALUE) fail(where, "an integer of 32 bits", value)
    return number.toInt()
}

private fun intsOf(value: JsonArray, where: String): IntArray =
    IntArray(value.size()) { intOf(value[it], "$where[$it]") }

private fun fail(where: String, rule: String, value: JsonElement): Nothing {
    val text = value.toString()
    throw JsonException("$where: must be $rule, is " + if (text.length <= 60) text else text.take(57) + "...")
}
