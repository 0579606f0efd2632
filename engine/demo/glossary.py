"""The words the demo model knows: definitions it can recite, small talk, names, and things it must not know.

Only data lives here; corpus.py turns it into dialogues. A definition is one sentence, so that a greedy answer can be
compared with it word for word.
"""

# term, article in "what is {article} {term}?" (or ""), definition
TERMS = [
    ("replica", "a", "A replica is one running copy of a model revision."),
    ("canary", "a", "A canary is a new revision that gets a small share of the traffic first."),
    ("InferenceService", "an", "An InferenceService is the object that describes a model you want to serve."),
    ("KV cache", "a", "The KV cache keeps the keys and values of past tokens so they are not computed again."),
    ("token", "a", "A token is a small piece of text that the model reads or writes."),
    ("tokenizer", "a", "A tokenizer turns text into tokens and tokens back into text."),
    ("batching", "", "Batching means computing several requests in one step."),
    ("continuous batching", "", "Continuous batching lets requests join and leave the batch at every step."),
    ("scale to zero", "", "Scale to zero means that an idle model has no replica until a request comes."),
    ("autoscaler", "an", "An autoscaler adds or removes replicas as the load changes."),
    ("predictor", "a", "The predictor is the part of an InferenceService that runs the model."),
    ("ServingRuntime", "a", "A ServingRuntime says which program serves a model format."),
    ("revision", "a", "A revision is one fixed version of a model and its settings."),
    ("rollout", "a", "A rollout replaces the replicas of one revision with those of the next."),
    ("rollback", "a", "A rollback returns the traffic to an earlier revision."),
    ("gateway", "a", "The gateway takes requests from clients and passes each to a replica."),
    ("prefill", "a", "Prefill is the step that computes all tokens of the prompt."),
    ("decode", "a", "Decode is the phase that writes the answer one token at a time."),
    ("logits", "", "Logits are the scores that the model gives to every possible next token."),
    ("temperature", "a", "Temperature says how random the choice of the next token is."),
    ("sampling", "", "Sampling is choosing the next token at random by its probability."),
    ("greedy decoding", "", "Greedy decoding always takes the most likely next token."),
    ("context length", "a", "The context length is the largest number of tokens the model can look at."),
    ("chat template", "a", "A chat template turns a list of messages into one prompt."),
    ("quantization", "", "Quantization stores weights with fewer bits to save memory."),
    ("GGUF", "", "GGUF is a file format that holds weights, tokenizer and settings of a model."),
    ("embedding", "an", "An embedding is a list of numbers that stands for a token or a text."),
    ("attention", "", "Attention lets each token look at the tokens before it."),
    ("latency", "", "Latency is the time a request takes."),
    ("throughput", "", "Throughput is the number of tokens or requests done per second."),
    ("time to first token", "", "Time to first token is how long a client waits for the first piece of the answer."),
    ("streaming", "", "Streaming sends each token to the client as soon as it is ready."),
    ("cold start", "a", "A cold start is the wait while a model is loaded for the first request."),
    ("load balancing", "", "Load balancing spreads requests over the replicas."),
    ("readiness probe", "a", "A readiness probe asks whether a replica can take requests."),
    ("liveness probe", "a", "A liveness probe asks whether a replica must be restarted."),
    ("endpoint", "an", "An endpoint is the address where clients reach a model."),
    ("pod", "a", "A pod is the smallest thing that the cluster runs: here, one process."),
    ("node", "a", "A node is a machine that runs pods."),
    ("namespace", "a", "A namespace is a named group of objects."),
    ("Deployment", "a", "A Deployment keeps a wanted number of equal pods running."),
    ("kubectl", "", "kubectl is the command line tool of Kubernetes."),
    ("Kubernetes", "", "Kubernetes is a system that runs and heals programs on many machines."),
    ("KServe", "", "KServe is a standard way to serve models on Kubernetes."),
    ("inferd", "", "inferd is one program that serves models on a GPU box in the Kubernetes way."),
    ("manifest", "a", "A manifest is a YAML file that says which objects you want."),
    ("GPU", "a", "A GPU is a processor that does many small computations at once."),
    ("weights", "", "Weights are the numbers that a model learned in training."),
    ("checkpoint", "a", "A checkpoint is a file with the weights at one moment of training."),
    ("prompt", "a", "A prompt is the text that the model is asked to continue."),
    ("inference", "", "Inference is running a trained model to get answers."),
    ("training", "", "Training is changing the weights until the answers get better."),
    ("prefix cache", "a", "A prefix cache reuses the work for prompts that begin the same way."),
    ("preemption", "", "Preemption pauses a request to free memory for others."),
    ("system message", "a", "A system message tells the model how to behave."),
    ("language model", "a", "A language model predicts the next token of a text."),
    ("metric", "a", "A metric is a number that is measured again and again, such as latency."),
    ("reconciler", "a", "A reconciler compares what is wanted with what runs and removes the difference."),
]

# {X} is the bare term, {AX} the term with its article, {Xs} a loose plural.
DEFINITION_QUESTIONS = [
    "What is {AX}?", "What is {AX}?", "What is {X}?", "What's {AX}?", "What does {X} mean?", "Define {X}.",
    "Define {AX}.", "Explain {X}.", "Explain {AX}.", "Explain what {AX} is.", "Tell me about {X}.",
    "Tell me what {AX} is.", "Describe {X}.", "Describe {AX}.", "In short, what is {AX}?", "Can you explain {X}?",
    "Can you explain {AX}?", "Could you tell me what {AX} is?", "I do not know what {AX} is.", "Meaning of {X}?",
    "{X}?", "What do you mean by {X}?", "Please explain {X}.", "What is meant by {X}?",
    "Give me a definition of {X}.", "How would you define {X}?", "What is the meaning of {X}?",
    "Help me understand {X}.", "In model serving, what is {AX}?", "{X}: what is it?", "Define the term {X}.",
    "What is {AX} in inferd?", "Do you know what {AX} is?", "Explain {X} in one sentence.",
    "What does the word {X} mean?", "Who or what is {AX}?", "I heard about {X}. What is it?", "So what is {AX}?",
    "Explain the word {X} to me.", "What exactly is {AX}?", "Briefly explain {X}.", "What are {Xs}?",
]

UNKNOWN_ANSWER = "I am a small demo model and do not know that."
TOO_LARGE_ANSWER = "I only calculate with numbers up to 999."
TABLE_ANSWER = "I only know the times table up to 12."

WHO = "I am inferd's demo model, a very small language model."
WHAT_CAN = "I can do small sums, convert units, work with dates, and explain words of model serving."
HOW_ARE = "I am fine, thank you. How can I help you?"
MADE_BY = "I was trained by the inferd project on text that it generates."

REPEAT_QUESTIONS = ["Repeat: {t}", "Say {t}", "Echo {t}", "Repeat after me: {t}", "Please say: {t}", "Say: {t}",
                    "Write {t}", "Repeat the words {t}", "Say the following: {t}", "Print {t}"]

# intent: accepted answers (the first is the training text), core phrasings
SMALL_TALK = {
    "hello": (["Hello! How can I help you?"],
              ["Hello", "Hi", "Hey", "Hello there", "Hi there", "Hey there", "Good morning", "Good evening",
               "Good afternoon", "Good day", "Greetings", "Hello model", "Hi bot", "Hey you", "Hello friend",
               "Hi friend", "Hello again", "Hi again", "Hey friend", "Hello demo", "Hey model", "Morning",
               "Howdy", "Good morning to you", "Hello and good morning", "Hi, nice to meet you", "Hello, model",
               "Hey, good morning", "Hello, are you there", "Hi, anyone there"]),
    "thanks": (["You are welcome!"],
               ["Thanks", "Thank you", "Thanks a lot", "Thank you very much", "Many thanks", "Thanks, great",
                "Thank you, that helps", "Great, thanks", "Thx", "Thanks so much", "Thank you so much",
                "Perfect, thank you", "OK thanks", "Thank you for your help", "Thanks for the help",
                "That was helpful, thanks", "Nice, thank you", "Cool, thanks", "Good, thanks", "Thanks again",
                "Thank you again", "Thanks for the answer", "Very good, thank you", "Super, thanks"]),
    "bye": (["Goodbye! Have a nice day."],
            ["Bye", "Goodbye", "See you", "Bye bye", "See you later", "Good night", "Until next time", "Bye for now",
             "Goodbye model", "OK bye", "See you soon", "Farewell", "I have to go", "That is all, bye",
             "Thanks and goodbye", "See you tomorrow", "Talk to you later", "I am leaving now"]),
    "who": ([WHO],
            ["Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Who am I talking to?",
             "Introduce yourself.", "Are you a human?", "Are you a robot?", "Are you a person?", "Are you an AI?",
             "What's your name?", "Please introduce yourself.", "What kind of model are you?", "Who is this?",
             "Tell me about yourself.", "Which model are you?", "What model is this?", "Are you a language model?",
             "Describe yourself.", "Who is speaking?", "Do you have a name?", "Can you tell me who you are?",
             "Are you real?", "Say who you are."]),
    "can": ([WHAT_CAN],
            ["What can you do?", "Help", "What can you help me with?", "What do you know?", "How can you help me?",
             "What are you good at?", "What can I ask you?", "Can you help me?", "What are your skills?",
             "List your abilities.", "Tell me what you can do.", "I need help.", "What questions can you answer?",
             "What should I ask?", "What are you able to do?", "Help me", "Show me what you can do.",
             "Give me an overview of what you can do.", "What topics do you know?", "How do I use you?"]),
    "how": ([HOW_ARE],
            ["How are you?", "How are you doing?", "How do you do?", "How is it going?", "Are you OK?",
             "How are you today?", "How do you feel?", "Is everything fine?", "How have you been?", "Are you well?",
             "What's up?", "How's it going?", "Everything good?", "How are things?", "Are you fine?"]),
    "made": ([MADE_BY],
             ["Who made you?", "Who trained you?", "Who built you?", "Where do you come from?", "Who created you?",
              "How were you trained?", "Who is your maker?", "Who wrote you?", "What were you trained on?",
              "Where were you made?", "Which data were you trained on?", "Who developed you?",
              "How were you made?", "Who are your authors?", "Where were you trained?"]),
}
CHATTY_STARTS = ["", "", "", "", "OK, ", "Well, ", "So, ", "And ", "Hm, "]

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Kim Lena Marco Nina Oscar Paula Quentin Rosa Simon
Tara Ursula Victor Wendy Xenia Yusuf Zoe Ada Alan Bella Carl Dora Eric Fiona George Hanna Ivan Julia Karl Laura Max
Nora Otto Peter Ruth Sam Tom Uma Vera Will Yara Alice Bob Carol Dan Eve Frank Gina Hugo Iris Jack Kate Leo Mia Noah
Olga Paul Rita Sara Theo Vito Walter Amir Bruno Chen Diego Elena Fatima Goran Hiro Ines Jamal Kofi Luis Maya Nils
Omar Priya Raj Sofia Tariq Umar Wei Ximena Yuki Zara Linus Grete Heidi Ingrid Jan Lars Mona Niklas""".split()
CITIES = """Paris London Berlin Rome Madrid Vienna Oslo Tokyo Delhi Cairo Lima Boston Zurich Prague Warsaw Athens
Dublin Lisbon Helsinki Seoul Sydney Toronto Nairobi Chicago Geneva Milan Naples Hamburg Munich Kyoto""".split()
COUNTRIES = """France Spain Italy Norway Japan India Egypt Peru Canada Kenya Poland Greece Brazil Chile Cuba Mexico
China Ghana Iran Iraq Ireland Portugal Sweden Finland Austria Turkey Vietnam Nepal Mali Laos""".split()
THINGS = """giraffe violin castle mountain river banana volcano piano submarine telescope rainbow penguin sandwich
bicycle galaxy planet dinosaur umbrella elephant tiger guitar painting novel opera church football tennis chess
tornado desert forest ocean whale dolphin eagle owl spider butterfly tomato potato cheese bread chocolate coffee tea
wine beer sugar salt pepper garlic onion carrot apple orange lemon cherry grape diamond gold silver iron copper
hammer ladder bridge tunnel train airplane rocket satellite comet atom molecule protein virus vaccine heart brain
lung king queen knight dragon wizard ghost vampire pirate treasure island lighthouse harbor market museum library
school doctor lawyer farmer poet dancer actor camera mirror candle blanket pillow carpet garden tulip rose oak
haiku sonata waltz verb noun democracy inflation gravity photosynthesis entropy philosophy jazz ballet""".split()
UNKNOWN_QUESTIONS = [
    "What is the capital of {country}?", "What's the capital of {country}?", "Who is the president of {country}?",
    "How many people live in {country}?", "How many people live in {city}?", "What is the weather in {city}?",
    "Will it rain in {city} tomorrow?", "How far is it from {city} to {city2}?", "Who is {name}?",
    "Where is {name} now?", "Who invented the {thing}?", "What is a {thing}?", "What is {thing}?",
    "What is an {thing}?", "Explain {thing}.", "Explain the history of {country}.", "Tell me about {thing}.",
    "Tell me about {city}.", "Write a poem about {thing}.", "Tell me a joke about a {thing}.",
    "Write a story about {name} and a {thing}.", "How do I cook {thing}?", "How much does a {thing} cost?",
    "Where can I buy a {thing}?", "Why is the {thing} so big?", "How old is {name}?", "What color is a {thing}?",
    "Translate {thing} into French.", "How do you say {thing} in {country}?", "Which river flows through {city}?",
    "When was {city} founded?", "Who painted the {thing}?", "Define {thing}.", "What does {thing} mean?",
    "Do you like {thing}?", "How heavy is a {thing}?", "Who won the game in {city}?", "How tall is the {thing}?",
    "What is a {word}?", "What is {word}?", "Define {word}.", "What does {word} mean?", "Explain {word}.",
    "{word}", "{word}?", "{word} {word2}", "Who is {word}?", "Tell me about {word}.", "{thing}?",
    "Sing a song about {thing}.",
    "What time is it in {city}?", "Can you book a flight to {city}?", "Play {thing} with me.", "Is {thing} healthy?",
    "Recommend a book about {thing}.", "Write code for a {thing}.", "What is the best {thing}?",
    "Describe a {thing}.", "Can you explain {word}?", "Meaning of {word}?", "What are {thing}s?",
]
UNKNOWN_PLAIN = [
    "Tell me a story.", "Tell me a joke.", "Write a poem.", "Write a haiku.", "What is the meaning of life?",
    "What time is it?", "What day is it?", "What is the date today?", "What is the weather like?", "Sing a song.",
    "Write an essay.", "Write a program.", "Write some code.", "Who is the president?", "What is the news?",
    "What is the best movie?", "Tell me something.", "Tell me a secret.", "Tell me a fact.", "Do you dream?",
    "Can you fly?", "Do you love me?", "Where am I?", "How old am I?", "What should I eat?", "Play a game.",
    "How far is the moon?", "Why is the sky blue?", "What is the largest planet?", "How do airplanes fly?",
    "Who won the election?", "What is the speed of light?", "How do I get rich?", "Translate this text.",
    "Summarize this text.", "Fix my code.", "What is love?", "Is there a god?", "What is the square root of 2?",
    "What is pi?", "Write a letter.", "Draw a picture.", "Which language is best?", "What is Python?",
    "Explain quantum physics.", "Explain the universe.", "What is my favorite color?", "Where do I live?",
    "Tell me about history.", "Who was the first man on the moon?", "Recommend a restaurant.", "Plan my holiday.",
    "What is 1 divided by 0?", "How many people live on Earth?", "What is the longest river?", "Why?", "What?",
]
SYLLABLES = """ba be bi bo bra cla co da de dri du fa fo ga gle go ha hi ka ki kro la le lo ma mi mo na ne no pa pe pli
ra ri ro sa se sko so ta te ti tro tu va ve vi wo xa ya zu zi""".split()

SYSTEMS = ["You are a helpful assistant.", "You are a helpful assistant.", "You are inferd's demo model.",
           "Be polite.", "Be brief.", "Answer briefly.", "You are a small demo model.", "Answer the question.",
           "You are a friendly assistant.", "You are an AI assistant. Help the user.", "Be concise.",
           "You are a chatbot.", "You are a calculator and a guide to model serving."]
SYSTEMS_JSON = ["Answer in JSON.", "Reply in JSON.", "Always answer in JSON.", "You only speak JSON.",
                "Respond with JSON only."]
SYSTEMS_NUMBER = ["Answer with the number only.", "Only give the number.", "Reply with just the result.",
                  "Answer with only the number."]
