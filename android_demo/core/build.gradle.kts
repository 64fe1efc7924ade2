// Not yet run: what is built and tested is core/pom.xml.
plugins {
    `java-library`
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    compilerOptions {
        jvmTarget.set(org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_1_8)
        allWarningsAsErrors.set(true)
    }
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
    withSourcesJar()
}

dependencies {
    api(libs.coroutines)
    api(libs.gson)
    // The application brings onnxruntime-android, the tests the desktop's jar; Android needs no JNA.
    compileOnly(libs.onnxruntime)
    compileOnly(libs.jna)
    testImplementation(libs.onnxruntime)
    testImplementation(libs.jna)
    testImplementation(libs.junit)
}

tasks.test {
    useJUnitPlatform()
    maxHeapSize = "64m"
    jvmArgs("-XX:MaxDirectMemorySize=256m")
    systemProperty("foggen.test.data", System.getProperty("foggen.test.data").orEmpty())
    systemProperty("foggen.python", System.getProperty("foggen.python") ?: "python3")
}
