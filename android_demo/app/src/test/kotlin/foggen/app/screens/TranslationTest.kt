package foggen.app.screens

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.w3c.dom.Element
import org.w3c.dom.NodeList
import java.io.File
import javax.xml.parsers.DocumentBuilderFactory

private val ARGUMENT = Regex("%\\d\\$[sd]")

/** Every text of the screens is there in every language. */
class TranslationTest {
    private class Texts(val strings: Map<String, String>, val plurals: Map<String, Map<String, String>>)

    private fun elements(nodes: NodeList): List<Element> = (0 until nodes.length).map { nodes.item(it) as Element }

    private fun texts(folder: String): Texts {
        val document = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(File("src/main/res/$folder/strings.xml"))
        val strings = elements(document.getElementsByTagName("string")).filter { it.getAttribute("translatable") != "false" }
        val plurals = elements(document.getElementsByTagName("plurals")).associate { plural ->
            plural.getAttribute("name") to
                elements(plural.getElementsByTagName("item")).associate { it.getAttribute("quantity") to it.textContent }
        }
        return Texts(strings.associate { it.getAttribute("name") to it.textContent }, plurals)
    }

    private fun arguments(text: String): List<String> = ARGUMENT.findAll(text).map { it.value }.sorted().toList()

    private val english = texts("values")

    // CLDR's cardinal forms of integers; Russian's `other` is for fractions, and Android asks for it.
    @ParameterizedTest
    @CsvSource("values-kk, one other", "values-ru, few many one other")
    fun `every text is translated, with the same arguments`(folder: String, forms: String) {
        val texts = texts(folder)
        assertEquals(english.strings.keys, texts.strings.keys)
        assertEquals(english.plurals.keys, texts.plurals.keys)
        for ((name, text) in texts.strings) {
            assertEquals(arguments(english.strings.getValue(name)), arguments(text), name)
            assertNotEquals(english.strings.getValue(name), text, name)
        }
        for ((name, items) in texts.plurals) {
            assertEquals(forms.split(' '), items.keys.sorted(), name)
            for (text in items.values) {
                assertEquals(arguments(english.plurals.getValue(name).getValue("other")), arguments(text), name)
                assertTrue(text !in english.plurals.getValue(name).values, name)
            }
        }
    }

    @ParameterizedTest
    @CsvSource("values-kk", "values-ru")
    fun `no text is left in Latin letters, but for names`(folder: String) {
        val names = setOf("JSON", "ZIP", "HTTP", "OpenAI", "chat", "completions", "onnxruntime", "A", "B")
        val texts = texts(folder)
        for (text in texts.strings.values + texts.plurals.values.flatMap { it.values }) {
            val words = Regex("[A-Za-z]+").findAll(ARGUMENT.replace(text, "").replace("\\n", " ")).map { it.value }
            assertEquals(emptyList<String>(), words.filter { it !in names }.toList(), text)
        }
    }

    @Test
    fun `what is shown is found in the texts`() {
        val sources = File("src/main").walk().filter { it.extension == "kt" || it.extension == "xml" && it.name != "strings.xml" }
        val used = sources.flatMap { Regex("(?:R\\.(?:string|plurals)\\.|@string/)(\\w+)").findAll(it.readText()) }.map { it.groupValues[1] }
        assertEquals(english.strings.keys + english.plurals.keys + "app_name", used.toSet())
    }
}
