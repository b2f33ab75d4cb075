// A program of which three variants are shipped, by features.

fn features() -> String {
    let mut on = Vec::new();
    if cfg!(feature = "plain") {
        on.push("plain");
    }
    if cfg!(feature = "loud") {
        on.push("loud");
    }
    if cfg!(feature = "polite") {
        on.push("polite");
    }
    on.join("+")
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("greet {} ({})", env!("CARGO_PKG_VERSION"), features());
        return;
    }
    let mut words = String::from("hello");
    if cfg!(feature = "polite") {
        words.push_str(", if I may");
    }
    if cfg!(feature = "loud") {
        words = words.to_uppercase() + "!";
    }
    println!("{words}");
}
