"""Writes prompts.json: for each built-in template the prompts of some chats, written out by hand here, and their tokens
by SentencePiece (Debian's python3-sentencepiece) with Llama 2's tokenizer.model, which is the first argument. A prompt is
a list of texts, each encoded by itself, and of tokens.
"""
import json
import sys

import sentencepiece

llama = sentencepiece.SentencePieceProcessor()
llama.Load(sys.argv[1])
BOS, EOS, STEP = 1, 2, 32015

user = lambda content, **more: {"role": "user", "content": content, **more}
assistant = lambda content: {"role": "assistant", "content": content}
system = lambda content: {"role": "system", "content": content}

ASK = [user(" What is a llama?\n")]
TWICE = [user("Hi"), assistant("Hello! I am here."), user("Who\nare you?")]
TOLD = [system("Be brief. "), *TWICE]

BRIEF = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions."
)
USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
BAIZE = (
    "The following is a conversation between a human and an AI assistant named Baize (named after a mythical creature "
    "in Chinese folklore). Baize is an open-source AI assistant developed by UCSD and Sun Yat-Sen University. The human "
    "and the AI assistant take turns chatting. Human statements start with [|Human|] and AI assistant statements start "
    "with [|AI|]. The AI assistant always provides responses in as much detail as possible, and in Markdown format. "
    "The AI assistant always declines to engage with topics, questions and instructions related to unethical, "
    "controversial, or sensitive issues. Complete the transcript in exactly that format."
)
GPT4ALL = (
    "### Instruction:\nThe prompt below is a question to answer, a task to complete, or a conversation to respond to; "
    "decide which and write an appropriate response."
)
DOCTOR = "If you are a doctor, please answer the medical questions based on the patient's description. "
GREETING = "\n\nChatDoctor: I am ChatDoctor, what medical questions do you have?\n\n"

PROMPTS = [
    ("llama-2", ASK, [BOS, "[INST] What is a llama? [/INST]"]),
    ("llama-2", TWICE, [BOS, "[INST] Hi [/INST] Hello! I am here. ", EOS, BOS, "[INST] Who\nare you? [/INST]"]),
    (
        "llama-2",
        TOLD,
        [
            BOS,
            "[INST] <<SYS>>\nBe brief. \n<</SYS>>\n\nHi [/INST] Hello! I am here. ",
            EOS,
            BOS,
            "[INST] Who\nare you? [/INST]",
        ],
    ),
    (
        "code-llama-70b",
        ASK,
        [
            *(BOS, "Source: system\n\n ", STEP, "Source: user\n\n What is a llama?", STEP),
            "Source: assistant\nDestination: user\n\n ",
        ],
    ),
    (
        "code-llama-70b",
        TOLD,
        [
            *(BOS, "Source: system\n\n Be brief.", STEP, "Source: user\n\n Hi", STEP),
            *("Source: assistant\n\n Hello! I am here.", STEP, "Source: user\n\n Who\nare you?", STEP),
            "Source: assistant\nDestination: user\n\n ",
        ],
    ),
    ("alpaca", ASK, [BOS, BRIEF + "\n\n### Instruction:\n What is a llama?\n\n\n### Response:"]),
    (
        "alpaca",
        [user("Name it.", input="A dog barks.")],
        [BOS, INPUT + "\n\n### Instruction:\nName it.\n\n### Input:\nA dog barks.\n\n### Response:"],
    ),
    (
        "alpaca",
        TOLD,
        [
            BOS,
            "Be brief. \n\n### Instruction:\nHi\n\n### Response:Hello! I am here.\n\n"
            "### Instruction:\nWho\nare you?\n\n### Response:",
        ],
    ),
    ("dolly", ASK, [BOS, BRIEF + "\n\n### Instruction:\n What is a llama?\n\n\n### Response:\n"]),
    (
        "dolly",
        [user("Name it.", input="A dog barks.")],
        [BOS, BRIEF + "\n\n### Instruction:\nName it.\n\nInput:\nA dog barks.\n\n### Response:\n"],
    ),
    ("vicuna-v0", ASK, [BOS, HUMAN + "\n### Human:  What is a llama?\n\n### Assistant:"]),
    (
        "vicuna-v0",
        TWICE,
        [BOS, HUMAN + "\n### Human: Hi\n### Assistant: Hello! I am here.\n### Human: Who\nare you?\n### Assistant:"],
    ),
    ("vicuna", ASK, [BOS, USER + " USER:  What is a llama?\n ASSISTANT:"]),
    ("vicuna", TWICE, [BOS, USER + " USER: Hi ASSISTANT: Hello! I am here.", EOS, "USER: Who\nare you? ASSISTANT:"]),
    ("vicuna", TOLD, [BOS, "Be brief.  USER: Hi ASSISTANT: Hello! I am here.", EOS, "USER: Who\nare you? ASSISTANT:"]),
    ("koala", ASK, [BOS, "BEGINNING OF CONVERSATION: USER:  What is a llama?\n GPT:"]),
    (
        "koala",
        TWICE,
        [BOS, "BEGINNING OF CONVERSATION: USER: Hi GPT:Hello! I am here.", EOS, "USER: Who\nare you? GPT:"],
    ),
    ("baize", ASK, [BOS, BAIZE + "\n[|Human|]Hello!\n[|AI|]Hi!\n[|Human|] What is a llama?\n\n[|AI|]"]),
    (
        "baize",
        TWICE,
        [
            BOS,
            BAIZE + "\n[|Human|]Hello!\n[|AI|]Hi!\n[|Human|]Hi\n[|AI|]Hello! I am here.\n[|Human|]Who\nare you?\n[|AI|]",
        ],
    ),
    ("gpt4all", ASK, [BOS, GPT4ALL + "\n### Prompt:\n What is a llama?\n\n### Response:\n"]),
    (
        "gpt4all",
        TWICE,
        [
            BOS,
            GPT4ALL + "\n### Prompt:\nHi\n### Response:\nHello! I am here.\n### Prompt:\nWho\nare you?\n### Response:\n",
        ],
    ),
    ("chatdoctor", ASK, [BOS, DOCTOR + GREETING + "Patient:  What is a llama?\n\n\nChatDoctor: "]),
    (
        "chatdoctor",
        TWICE,
        [
            BOS,
            DOCTOR + GREETING + "Patient: Hi\n\nChatDoctor: Hello! I am here.\n\nPatient: Who\nare you?\n\nChatDoctor: ",
        ],
    ),
]


def tokens(prompt):
    return [token for part in prompt for token in ([part] if isinstance(part, int) else llama.EncodeAsIds(part))]


lines = [
    json.dumps({"template": name, "messages": messages, "prompt": prompt, "tokens": tokens(prompt)})
    for name, messages, prompt in PROMPTS
]
print("[\n" + ",\n".join(lines) + "\n]")
