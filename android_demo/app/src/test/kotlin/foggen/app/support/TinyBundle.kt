package foggen.app.support

import com.google.gson.JsonObject
import foggen.json.compactJson
import foggen.json.parseJson
import org.junit.jupiter.api.Assumptions
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.security.MessageDigest

/** A bundle that no engine opens: a right manifest, and files of a few hundred kilobytes. */
object TinyBundle {
    const val MODEL_BYTES = 400_000

    fun write(folder: Path, seed: Int = 1): Path {
        val files = mapOf(
            // A protocol buffer of one field, the producer's name: a graph without tensors.
            "model.onnx" to byteArrayOf(0x12, 0xe5.toByte(), 0x07) + bytes(997, seed),
            "model.onnx.data" to bytes(MODEL_BYTES, seed + 1),
            "tokenizer.json" to "{}".toByteArray(),
            "card/a b.md" to bytes(3, seed),
            "empty" to ByteArray(0),
        )
        val listed = JsonObject()
        for ((name, content) in files) {
            Files.createDirectories(folder.resolve(name).parent)
            Files.write(folder.resolve(name), content)
            listed.add(name, parseJson("""{"bytes":${content.size},"sha256":"${sha256(content)}"}"""))
        }
        val manifest = parseJson(MANIFEST).asJsonObject
        manifest.add("files", listed)
        Files.write(folder.resolve("foggen.json"), compactJson(manifest).toByteArray())
        return folder
    }

    private fun bytes(count: Int, seed: Int) = ByteArray(count).also { java.util.Random(seed.toLong()).nextBytes(it) }

    private fun sha256(bytes: ByteArray) =
        MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }

    private const val MANIFEST = """{"format_version":1,
        "model":{"name":"tiny","architecture":"qwen3","num_hidden_layers":1,"num_attention_heads":1,
            "num_key_value_heads":1,"head_dim":2,"vocab_size":8,"context_length":16,"eos_token_ids":[1]},
        "graph":{"file":"model.onnx","logits_tail":1,"onnxruntime":"1.27.0"},
        "quantization":{"recipe":"int4","groups":{}},
        "prompt":{"system":"","prefix_ids":[2],"question_prefix":"","question_suffix":"","suffix_ids":[3]},
        "template":{"levels":["0","1"],"level_ids":[[4],[5]],"separator_ids":[6],"answer_prefix":"A:",
            "answer_prefix_ids":[7],"min_template_probability":0.0},
        "routing":{"tau":0.5},"provenance":{}}"""
}

/** Bundles made by `python -m tests.golden.prepare`; tests that need them are skipped where none is named. */
fun trainedBundle(): Path {
    val named = System.getProperty("foggen.test.data").orEmpty()
    Assumptions.assumeTrue(named.isNotEmpty(), "run with -Dfoggen.test.data=DIRECTORY")
    return Paths.get(named).resolve("bundles/int4")
}
